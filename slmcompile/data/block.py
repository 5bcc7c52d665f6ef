"""What becomes of a block of a source's rows, whatever the others are: texts, ids, facts of each.

A block is worked on in any process. Nothing that is found here depends on the rows of other blocks;
what does (repeats, splits, leaks) is found from the digests and numbers that are told of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from slmcompile.console.errors import BadDataError
from slmcompile.data import mixture
from slmcompile.data.control_tokens import ControlTokens
from slmcompile.data.documents import pieces_of
from slmcompile.data.encode import Encoded, encode, prefix_ids
from slmcompile.data.guard import Guard
from slmcompile.data.label_writings import writing_of
from slmcompile.data.labels import label_of
from slmcompile.data.normal_label import normal_answer, normal_text
from slmcompile.data.normalise import normalised
from slmcompile.data.render import render
from slmcompile.data.row_facts import OfRow, of_rows
from slmcompile.data.row_keys import digest, digests, order_of
from slmcompile.data.rows import Rendered, Rendering, SourceRow, as_text
from slmcompile.data.spill import packed
from slmcompile.data.store import Row, to_batch
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.recipe.data_parts import Part
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS, Split
from slmcompile.templates import TEMPLATES

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with every block of a source.

    Attributes:
        config: the recipe's ``data`` section.
        part: the source.
        tokenizer: the base model's.
        controls: its control tokens.
        guard: what is done with values that spell them.
        divided: splits of the source whose rows are divided, so that what does it has to be there.
        thinking: whether a chat template's thinking is on; None finds out from the rows.
    """

    config: Data
    part: Part
    tokenizer: Tokenizer
    controls: ControlTokens
    guard: Guard
    divided: Sequence[Split]
    thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """What a block of rows has become.

    Attributes:
        head: how they were rendered, without the rows.
        prefix: ids before every prompt.
        origin: number of the split that the source gives each row in.
        sources: the row of the block that each text is of.
        texts: packed, the text of each example, in order: one a text, or several of a document.
        rows: packed, a record batch of the same.
        columns: numbers of each example, by name.
        names: texts of each example, by name.
        wrong: examples that train anything but their answers, and what.
    """

    head: Rendering
    prefix: Sequence[int]
    origin: npt.NDArray[np.int8]
    sources: npt.NDArray[np.int64]
    texts: bytes
    rows: bytes
    columns: Mapping[str, Column]
    names: Mapping[str, Sequence[str | None]]
    wrong: Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class _Example:
    number: int
    text: Rendered
    ids: Encoded
    row: Row
    label: str | None
    divided: bool


def make_block(job: Job, rows: Sequence[tuple[Split, SourceRow]]) -> Block:
    """Renders, encodes and proves a block of rows, and finds what is to be known of each.

    Raises:
        BadDataError, BadRecipeError, RefusedError: see ``render`` and ``encode``; or a label is
            not in its answer.
    """
    part = job.part
    template = TEMPLATES[part.template.type]
    rendering = render(
        [row for _, row in rows],
        part.template,
        part.columns,
        job.tokenizer,
        job.guard,
        _normal_answer(job),
        thinking=job.thinking,
    )
    prefix = [] if template.chat else prefix_ids(job.tokenizer)
    if not template.asks:
        # The first token is trained too, and follows what ends the text before it.
        prefix = prefix or [rendering.stop.id]
    texts = rendering.rows
    encoded = encode(texts, job.tokenizer, rendering.stop, prefix, job.controls)
    whole = [
        (number, *piece)
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True))
        for piece in ([(text, ids)] if template.asks else _pieces(job, text, ids))
    ]
    examples = [
        _example(job, number, text, ids, divided=rows[text.source][0] in job.divided)
        for number, text, ids in whole
    ]
    found = of_rows(part, rendering, job.tokenizer, [(each.row, each.text) for each in examples])
    return Block(
        head=replace(rendering, rows=[]),
        prefix=prefix,
        origin=np.array([SPLITS.index(split) for split, _ in rows], dtype=np.int8),
        sources=np.array([text.source for text in texts], dtype=np.int64),
        texts=packed(tuple(each.text for each in examples)),
        rows=packed(to_batch([each.row for each in examples])),
        columns=_columns(job, texts, examples, found),
        names=_names(job, examples),
        wrong=[(n, each.wrong) for n, each in enumerate(found) if each.wrong],
    )


def _normal_answer(job: Job) -> Callable[[str], str]:
    """Labels are the task's; what is there against forgetting stays as it is."""
    steps = job.config.label_steps if job.part.counted else ()
    return lambda text: normal_answer(text, job.config.label, steps)


def _pieces(job: Job, text: Rendered, ids: Encoded) -> Iterator[tuple[Rendered, Encoded]]:
    return pieces_of(text, ids, job.tokenizer, job.config.max_length)


def _example(job: Job, number: int, text: Rendered, ids: Encoded, *, divided: bool) -> _Example:
    """A row but for its id; of one that is too long the label may not be there."""
    asks = text.document is None
    key = job.config.label if job.part.counted and asks else None
    label = label_of(text.completion, key) if asks else ""
    if label is None and len(ids.input_ids) <= job.config.max_length:
        raise BadDataError(
            f"{text.row.where}: the completion is no JSON object with a value for "
            f"{key!r} (data.label)",
            "correct the row's answer or data.label",
        )
    row = Row(
        id=0,
        prompt=text.prompt,
        completion=text.completion,
        label=label or "",
        prompt_ids=ids.prompt_ids,
        input_ids=ids.input_ids,
        labels=ids.labels,
        prompt_cuts=list(text.prompt_cuts),
        source=job.part.name,
        counted=job.part.counted,
        document=not asks,
    )
    return _Example(number, text, ids, row, label, divided)


def _columns(
    job: Job, texts: Sequence[Rendered], examples: Sequence[_Example], found: Sequence[OfRow]
) -> dict[str, Column]:
    whole = [texts[each.number] for each in examples]
    seed = job.config.seed
    read = cache(normalised)  # all rows of a long document have the whole of it for an identity
    normal = [read(each.text.identity) for each in examples]
    groups = [_group(job, each) for each in examples]
    keys = [n if group is None else group for n, group in zip(normal, groups, strict=True)]
    columns: dict[str, Column] = {
        "text": np.array([each.number for each in examples], dtype=np.int64),
        "piece": np.array([each.text.piece for each in examples], dtype=np.int32),
        "prompt_tokens": np.array([len(each.ids.prompt_ids) for each in examples], dtype=np.int32),
        "tokens": np.array([len(each.ids.input_ids) for each in examples], dtype=np.int32),
        "trained": np.array([each.trained for each in found], dtype=np.int32),
        "flags": np.array([each.flags for each in found], dtype=np.uint8),
        "together": np.array(
            [each.text.source if each.text.together is not None else -1 for each in examples],
            dtype=np.int64,
        ),
        # Of pieces that of the whole text: a text is a repeat, and not a piece.
        "prompt": digests((digest(text.identity) for text in whole), 16),
        "answer": digests((digest(text.completion) for text in whole), 16),
        "normal": digests(map(digest, normal), 16),
        "order": digests((order_of(seed, key) for key in keys), 32),
    }
    if job.part.name:
        columns["taken"] = digests(
            (
                mixture.digest(seed, job.part.name, each.row.prompt, each.row.completion)
                for each in examples
            ),
            32,
        )
    return columns


def _names(job: Job, examples: Sequence[_Example]) -> dict[str, Sequence[str | None]]:
    """What has a name, of which there may be few different ones."""
    config = job.config
    found: dict[str, list[str | None]] = {
        "stratum": [_stratum(job, each) for each in examples],
        "group": [_group(job, each) for each in examples],
    }
    if config.labelled:
        found["label"] = [each.label for each in examples]
        found["writing"] = [
            writing_of(each.text.completion, config.label) if job.part.counted else None
            for each in examples
        ]
    same: dict[str, str] = {}
    return {
        name: [None if text is None else same.setdefault(text, text) for text in texts]
        for name, texts in found.items()
    }


def _stratum(job: Job, each: _Example) -> str:
    """The rule's column is the task's, and none of replay."""
    rule = job.config.split
    if rule.strategy == "random" or not job.part.counted or not each.divided:
        return ""
    if rule.by is None or rule.strategy == "group":  # a group split always names its column
        return each.row.label
    return normal_text(as_text(each.text.row, rule.by, job.part.columns), job.config.label_steps)


def _group(job: Job, each: _Example) -> str | None:
    rule = job.config.split
    if rule.strategy != "group" or rule.by is None or not job.part.counted or not each.divided:
        return None
    return as_text(each.text.row, rule.by, job.part.columns)
