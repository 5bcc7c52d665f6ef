"""A tokenizer as two graphs of OpenVINO, by which openvino-genai reads and writes texts.

What is written is ``tokenizer.json``, whatever transformers makes of it by its class. Where a digit
is its own piece before the byte-level step, openvino-tokenizers 2026.4 puts both into one pattern,
in which white space before a digit is split otherwise than in two steps: it is given one that is
equal to them (tested on random text).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmcompile.models.tokenizer_files import GPT2_PATTERN, portable

_DIGIT = r"\p{N}"
_SPACE, _SPACE_OF_PIECE = r"\s+(?!\S)", r"\s+(?![^\s\p{N}])"
"""White space that leaves its last to what follows; a digit begins another piece."""


def graphs(model: Path) -> tuple[Any, Any]:
    """What turns text into ids, and what turns ids into text.

    Args:
        model: a folder with a tokenizer's files.
    """
    from openvino_tokenizers import convert_tokenizer
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    auto: Any = AutoTokenizer
    tokenizer = auto.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    told = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    told["pre_tokenizer"] = in_one(told.get("pre_tokenizer"))
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(told))  # noqa: SLF001 - no other way in
    reads, writes = convert_tokenizer(tokenizer, with_detokenizer=True)
    return reads, writes


def in_one(pre_tokenizer: dict[str, Any] | None) -> dict[str, Any] | None:
    """An equal pre-tokenizer, with one pattern for single digits and GPT-2's words between them."""
    found = portable(pre_tokenizer)
    if found is None or found.get("type") != "Sequence":
        return found
    steps: list[dict[str, Any]] = []
    for step in found["pretokenizers"]:
        if _pattern(step) == GPT2_PATTERN and steps and _pattern(steps[-1]) == _DIGIT:
            words = GPT2_PATTERN.replace(r" ?\p{N}+|", "").replace(_SPACE, _SPACE_OF_PIECE)
            steps[-1] = {**step, "pattern": {"Regex": f"{_DIGIT}|{words}"}}
        else:
            steps.append(step)
    return {**found, "pretokenizers": steps}


def _pattern(step: dict[str, Any]) -> str:
    kept = step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]
    return str(step["pattern"].get("Regex", "")) if kept else ""
