"""Writes a tokenizer so that onnxruntime-genai splits text exactly as Hugging Face does.

onnxruntime-extensions (in onnxruntime-genai 0.18) ignores the ``Digits`` pre-tokenizer, which
SmolLM, StarCoder and others put before the byte-level step, and it ignores ``use_regex`` of a
``ByteLevel`` step that follows a ``Split``. Both are rewritten as ``Split`` steps, which both
libraries carry out; the ids stay those of the original (tested on random text).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ``ByteLevel(use_regex=True)`` splits by (openai/gpt-2, src/encoder.py)."""

_COPIED = (
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def write_tokenizer(base: Path, out: Path) -> None:
    """Puts the base model's tokenizer files into ``out``, readable by both libraries."""
    _copy(base, out, _COPIED)
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = portable(tokenizer.get("pre_tokenizer"))
    text = json.dumps(tokenizer, ensure_ascii=False, indent=2)
    (out / "tokenizer.json").write_text(text + "\n", encoding="utf-8", newline="\n")


def copy_tokenizer(base: Path, out: Path) -> None:
    """Puts the base model's tokenizer files into ``out`` as they are, for Hugging Face alone."""
    _copy(base, out, ("tokenizer.json", *_COPIED))


def _copy(base: Path, out: Path, names: Iterable[str]) -> None:
    for name in names:
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)


def portable(pre_tokenizer: dict[str, Any] | None) -> dict[str, Any] | None:
    """An equal pre-tokenizer without individual ``Digits``; any other comes back unchanged."""
    if pre_tokenizer is None or pre_tokenizer.get("type") != "Sequence":
        return pre_tokenizer
    steps: list[dict[str, Any]] = pre_tokenizer["pretokenizers"]
    if not any(_splits_digits(step) for step in steps):
        return pre_tokenizer
    rewritten: list[dict[str, Any]] = []
    for step in steps:
        if _splits_digits(step):
            rewritten.append(_split(r"\p{N}"))
        elif step["type"] == "ByteLevel" and step.get("use_regex", True):
            rewritten += [_split(GPT2_PATTERN), {**step, "use_regex": False}]
        else:
            rewritten.append(step)
    return {**pre_tokenizer, "pretokenizers": rewritten}


def _splits_digits(step: dict[str, Any]) -> bool:
    return step["type"] == "Digits" and bool(step.get("individual_digits"))


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
