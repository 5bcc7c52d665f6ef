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
from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.part_rows import PartRows
from slmcompile.data.prompt import prompt_pieces
from slmcompile.data.render import program_of
from slmcompile.data.report_facts import SameIds
from slmcompile.data.rows import Rendered
from slmcompile.data.store import Row
from slmcompile.data.template import Part
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.models.tokenizer_files import portable

SAMPLE = 64
"""Prompts compared, spread evenly over the rows."""


def compare_all(
    examples: Examples,
    numbers: Numbers,
    prompt: Mapping[str, Any],
    tokenizer: Tokenizer,
    base: Path,
) -> SameIds:
    """Encodes a sample of each source's prompts in each way.

    Args:
        examples: all there are.
        numbers: those that are written, each once, in their order.
        prompt: content of ``prompt.json``.
        tokenizer: the base model's.
        base: its folder.
    """
    found: list[SameIds] = []
    for part in examples.parts:
        own = examples.of_part(numbers, part)
        described = prompt["sources"][part.part.name] if part.part.name else prompt
        if len(own):
            first = own[examples.columns["piece"][own] == 0]
            sample = first[:: max(1, -(-len(first) // SAMPLE))].tolist()
            made = [(examples.row(number), examples.text(number)) for number in sample]
            found.append(compare(part, made, described, tokenizer, base))
    if len(found) == 1:
        return found[0]
    return SameIds(
        prompts=sum(each.prompts for each in found),
        served=sum(each.served for each in found),
        training=_digest([each.training for each in found]),
        serving=_digest([each.serving for each in found]),
        exported=_digest([each.exported for each in found]),
        differs=next((each.differs for each in found if each.differs), ""),
    )


def compare(
    part: PartRows,
    made: Sequence[tuple[Row, Rendered]],
    prompt: Mapping[str, Any],
    tokenizer: Tokenizer,
    base: Path,
) -> SameIds:
    """The same of some rows of one source, whose prompts are written as ``prompt`` says.

    Of documents, which have no prompts, it is their text as far as their first piece goes.
    """
    texts_of = {row.id: text for row, text in made}
    sample = [row for row, _ in made]
    exported = _exported(base)
    prefix = list(prompt["prefix_ids"])
    ids = [_known(row, texts_of) for row in sample]
    places = [texts_of[row.id].row.where for row in sample]
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
        _behind(prefix, of_export(_pieces(row, texts_of)))[: len(known) if row.document else None]
        if exported
        else known
        for row, known in zip(sample, ids, strict=True)
    ]
    served, texts = _served(part, sample, texts_of, prompt, tokenizer)
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


def _known(row: Row, texts: Mapping[int, Rendered]) -> list[int]:
    """What is compared of a row: its prompt's ids, or those of a document without its end."""
    if not row.document:
        return row.prompt_ids
    return row.input_ids[:-1] if texts[row.id].ends else row.input_ids


def _pieces(row: Row, texts: Mapping[int, Rendered]) -> tuple[str, ...]:
    """The text that they are of, as it is cut; of a document all of it."""
    text = texts[row.id]
    if text.document is not None:
        return split_at(text.document, text.completion_cuts)
    return split_at(row.prompt, row.prompt_cuts)


def read_as_token(
    controls: ControlTokens, encode: Callable[[Sequence[str]], list[int]], way: str
) -> str:
    """The first control token that a user's text could still write; empty where there is none."""
    before = encode(())  # of plain text, where no token opens a text, the one that ends it
    for token, number in controls.ids.items():
        value = f"a{token}b"
        found = controls.spellings([Part(value, "text")])
        ids = encode(split_at(value, [each.at for each in found]))
        read = ids.count(number) > before.count(number)
        if read and all(each.divisible for each in found):
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
    part: PartRows,
    sample: Sequence[Row],
    texts_of: Mapping[int, Rendered],
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

    template, renamed, columns = part.part.template, part.part.columns, part.rendering.columns
    numbers: list[int] = []
    typed: list[dict[str, str]] = []
    texts: list[tuple[str, ...]] = []
    for number, row in enumerate(sample):
        text = texts_of[row.id]
        values = program_of(template).typed(text, template, renamed, columns)
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


def _digest(ids: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()
