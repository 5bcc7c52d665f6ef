"""What llama.cpp computes and splits, by a model's own files: told before anything is exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BYTE_LEVEL = "<byte level>"
_DIGITS = "<digits>"
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITTERS: dict[tuple[str, ...], str] = {
    (_BYTE_LEVEL,): "gpt-2",
    (_DIGITS, _BYTE_LEVEL): "smollm",
    (_QWEN,): "qwen2",
    (_QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),): "llama-bpe",
}
"""What a text is split by → llama.cpp's name of it."""


def unlike(config: Mapping[str, Any]) -> str | None:
    """What of a model's configuration llama.cpp would not compute as transformers does."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    longest = config.get("max_position_embeddings")
    unlike = {
        f"hidden_act {config.get('hidden_act')!r}": config.get("hidden_act", "silu") != "silu",
        f"attention in a window of {window}": isinstance(window, int)
        and isinstance(longest, int)
        and 0 < window < longest,
        f"rope_type {rope(config)['rope_type']!r}": rope(config)["rope_type"]
        not in ("default", "llama3"),
    }
    return next((what for what, found in unlike.items() if found), None)


def rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of the rotary embedding, where transformers 5 writes it and where it wrote it before."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    found = found if isinstance(found, Mapping) else {}
    kind = found.get("rope_type") or found.get("type") or "default"
    return {"rope_theta": config.get("rope_theta", 10000.0), **found, "rope_type": kind}


def splitter(told: Mapping[str, Any]) -> str | None:
    """llama.cpp's name of what splits a text before its pieces are merged; None where it has none.

    Args:
        told: ``tokenizer.json``.
    """
    if told["model"].get("type") != "BPE" or told["model"].get("byte_fallback"):
        return None
    return _SPLITTERS.get(split_by(told))


def split_by(told: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps that split a text, as they are known here."""
    steps = told.get("pre_tokenizer") or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    found: list[str] = []
    for step in steps:
        if step.get("type") == "ByteLevel" and not step.get("add_prefix_space"):
            found += [_BYTE_LEVEL] if step.get("use_regex", True) else []
        elif step.get("type") == "Digits" and step.get("individual_digits"):
            found.append(_DIGITS)
        elif step.get("type") == "Split" and step.get("behavior") == "Isolated":
            found.append(str(step["pattern"].get("Regex")))
        else:
            found.append(f"<{step.get('type')}>")
    return tuple(found)
