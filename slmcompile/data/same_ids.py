"""Whether training, serving and an exported folder give the same token ids for the same text.

Training encodes the prompts of rows. Serving writes a prompt by ``prompt.json`` from new values;
an exported folder splits it by a ``tokenizer.json`` that is rewritten for onnxruntime-genai. Each
way is gone here for a sample of rows before anything is trained. (That onnxruntime-genai itself
splits by its file as it should is proved by the ``export`` stage.) And a user's text that spells a
control token is text in each way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.chat_render import Message, Request, render_all
from slmcompile.data.control_tokens import ControlTokens, split_at
from slmcompile.data.prompt import prompt_pieces
from slmcompile.data.render import program_of
from slmcompile.data.report_facts import SameIds
from slmcompile.data.rows import Rendering
from slmcompile.data.store import Row
from slmcompile.data.template import Part
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.models.tokenizer_files import portable
from slmcompile.recipe.schema import Data

SAMPLE = 64
"""Prompts compared, spread evenly over the rows."""


def compare(
    config: Data,
    rows: Sequence[Row],
    rendering: Rendering,
    prompt: Mapping[str, Any],
    tokenizer: Tokenizer,
    base: Path,
) -> SameIds:
    """Encodes a sample of prompts in each way.

    Args:
        config: the recipe's ``data`` section.
        rows: rows as written.
        rendering: the texts that they were made from, by ``Row.id``.
        prompt: content of ``prompt.json``.
        tokenizer: the base model's.
        base: its folder.
    """
    ordered = sorted(rows, key=lambda row: row.id)
    sample = ordered[:: -(-len(ordered) // SAMPLE)]
    exported = _exported(base)
    prefix = list(prompt["prefix_ids"])
    ids = [row.prompt_ids for row in sample]
    places = [rendering.rows[row.id].row.where for row in sample]
    plain = bool(prompt["add_special_tokens"])

    def own(pieces: Sequence[str]) -> list[int]:
        return [
            token
            for piece in pieces
            for token in tokenizer(piece, add_special_tokens=plain)["input_ids"]
        ]

    def of_export(pieces: Sequence[str]) -> list[int]:
        return [token for piece in pieces for token in exported(piece)]

    by_export = [
        _behind(prefix, of_export(split_at(row.prompt, row.prompt_cuts)))
        if exported
        else row.prompt_ids
        for row in sample
    ]
    served, texts = _served(config, sample, rendering, prompt, tokenizer)
    by_serving = [_behind(prefix, own(pieces)) for pieces in texts]
    controls = ControlTokens(prompt["control_tokens"])
    differs = (
        _first(places, ids, by_export, "an exported folder")
        or _first([places[n] for n in served], [ids[n] for n in served], by_serving, "prompt.json")
        or read_as_token(controls, own, "prompt.json")
        or (read_as_token(controls, of_export, "an exported folder") if exported else "")
    )
    return SameIds(
        prompts=len(sample),
        served=len(served),
        training=_digest(ids),
        serving=_digest(by_serving),
        exported=_digest(by_export),
        differs=differs,
    )


def read_as_token(
    controls: ControlTokens, encode: Callable[[Sequence[str]], list[int]], way: str
) -> str:
    """The first control token that a user's text could still write; empty where there is none."""
    for token, number in controls.ids.items():
        value = f"a{token}b"
        found = controls.spellings([Part(value, "text")])
        ids = encode(split_at(value, [each.at for each in found]))
        if number in ids and all(each.divisible for each in found):
            return f"{way}: a user's text {token} becomes the control token"
    return ""


def _behind(prefix: list[int], ids: list[int]) -> list[int]:
    return ids if ids[: len(prefix)] == prefix else [*prefix, *ids]


def _exported(base: Path) -> Any:
    """Encodes by the ``tokenizer.json`` that an export writes; None where there is none."""
    if not (base / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer as Fast

    written = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    written["pre_tokenizer"] = portable(written.get("pre_tokenizer"))
    # A length limit saved with the file would shorten; onnxruntime-genai ignores it.
    written["truncation"] = written["padding"] = None
    fast = Fast.from_str(json.dumps(written))
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def _served(
    config: Data,
    sample: Sequence[Row],
    rendering: Rendering,
    prompt: Mapping[str, Any],
    tokenizer: Tokenizer,
) -> tuple[list[int], list[tuple[str, ...]]]:
    """Indexes of the rows that ``prompt.json`` can write, and the pieces that it writes."""
    asked: list[list[Message]] = []

    def later(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        return ""

    def now(_: list[dict[str, str]]) -> str:
        return next(rendered)

    template, columns = config.template, rendering.columns
    numbers: list[int] = []
    typed: list[dict[str, str]] = []
    texts: list[tuple[str, ...]] = []
    for number, row in enumerate(sample):
        text = rendering.rows[row.id]
        values = program_of(template).typed(text, template, config.columns, columns)
        if values is not None:
            numbers.append(number)
            typed.append(values)
            texts.append(prompt_pieces(prompt, values, later))
    if asked:  # all at once: the chat template's process takes seconds to start
        outcomes = render_all(
            tokenizer,
            [Request(each, open=True) for each in asked],
            thinking=prompt["enable_thinking"],
        )
        rendered = iter([outcome.text for outcome in outcomes])
        texts = [prompt_pieces(prompt, values, now) for values in typed]
    return numbers, texts


def _first(
    places: Sequence[str], ids: Sequence[list[int]], others: Sequence[list[int]], way: str
) -> str:
    for place, one, other in zip(places, ids, others, strict=True):
        if one != other:
            pairs = zip(one, other, strict=False)
            at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
            return (
                f"{place}: {way} gives other ids than training from token {at} of the prompt"
                f" ({len(other)} tokens, not {len(one)})"
            )
    return ""


def _digest(ids: Sequence[list[int]]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()
