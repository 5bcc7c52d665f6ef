"""The data stage's work: rows of sources to tokenized, checked, split Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slmcompile.base.facts import read_context_length
from slmcompile.console.errors import BadDataError
from slmcompile.console.progress import Progress
from slmcompile.data.block import Block, Job, make_block
from slmcompile.data.control_tokens import ControlTokens
from slmcompile.data.describe import LISTED, report
from slmcompile.data.divide import divide, smallest
from slmcompile.data.duplicates import contradictions
from slmcompile.data.examples_of import Examples, Gathered, Numbers, unrepeated
from slmcompile.data.facts import each_once, row_facts
from slmcompile.data.guard import guard_of
from slmcompile.data.heads import one_head
from slmcompile.data.normalise import normalised
from slmcompile.data.part_rows import PartRows, Read, placed, read_part
from slmcompile.data.prompt import describe_prompts
from slmcompile.data.row_facts import DOCUMENT
from slmcompile.data.rows import Rendering
from slmcompile.data.same_ids import compare_all
from slmcompile.data.source_report import document_counts, source_reports
from slmcompile.data.spill import spilled_into, unpacked
from slmcompile.data.store import write_batches
from slmcompile.data.tokenizer import Tokenizer, control_tokens, load_tokenizer
from slmcompile.data.too_long import refuse_long
from slmcompile.data.workers import cores, in_order
from slmcompile.files.artifact import write_json
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS, Split
from slmcompile.templates import TEMPLATES

ALONE = 4
"""Blocks of a source up to which one process is enough: others would be slower to start."""


def prepare(
    config: Data,
    project: Path,
    base: Path,
    out: Path,
    progress: Progress,
    roots: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads, checks, renders, tokenizes, splits and mixes the recipe's data.

    Writes ``train.parquet``, ``validation.parquet``, ``test.parquet``, ``data_report.json`` and
    ``prompt.json`` into ``out``. Equal input gives equal bytes, on any number of cores.

    Args:
        config: the recipe's ``data`` section.
        project: folder that the recipe's paths are relative to; no file outside is read.
        base: folder of the base model, of which the tokenizer and the context length are used.
        out: an empty folder.
        progress: told the counts and the report's warnings.
        roots: folders outside of the project that a link in it may lead into.

    Returns:
        Facts for the manifest: rows and tokens of each split.

    Raises:
        BadDataError: file, row and column are named (exit 65).
        BadRecipeError, RefusedError, MissingError: see the parts.
    """
    with spilled_into(out):
        return _prepare(config, project, base, out, progress, roots)


def _prepare(
    config: Data,
    project: Path,
    base: Path,
    out: Path,
    progress: Progress,
    roots: Sequence[str],
) -> dict[str, Any]:
    read = [read_part(part, project, roots, progress) for part in config.parts]
    tokenizer = load_tokenizer(base)
    controls = control_tokens(tokenizer)
    gathered = Gathered()
    parts = [
        _made(number, each, config, tokenizer, controls, gathered, progress)
        for number, each in enumerate(read)
    ]
    examples = Examples.of(parts, gathered)
    kept = np.flatnonzero(unrepeated(examples))
    fits = examples.columns["tokens"][kept] <= config.max_length
    used, too_long = kept[fits], kept[~fits]
    for rows in parts:
        with placed(rows.part):
            _refuse_long(examples, examples.of_part(kept, rows), config, base)
    try:
        divided = divide(examples, used, config)
    except BadDataError as error:
        if not len(too_long):
            raise
        raise BadDataError(
            f"{error.what}; {len(too_long)} of {_texts(examples, kept)} rows are longer than"
            " data.max_length and were dropped",
            f"raise data.max_length, or {error.mend}",
        ) from error
    splits = divided.splits
    prompt = describe_prompts(config, parts, controls)
    facts = row_facts(
        config,
        examples,
        splits,
        tokenizer,
        too_long=too_long,
        strata=smallest(examples, used, config),
        same_ids=compare_all(examples, each_once(splits), prompt, tokenizer, base),
    )
    _write(out, examples, splits)
    repeats = [rows.texts - _texts(examples, examples.of_part(kept, rows)) for rows in parts]
    found = report(
        splits,
        examples,
        tokenizer=tokenizer,
        labelled=config.labelled,
        duplicates=sum(repeats),
        too_long=too_long,
        max_length=config.max_length,
        contradicting=contradictions(examples, kept, LISTED),
        facts=facts,
        sources=source_reports(divided, examples, repeats, tokenizer),
        documents=document_counts(examples, used),
    )
    if facts.spelled:
        progress.say(f"{facts.spelled} rows spell control tokens, which are encoded as text")
    write_json(out / "data_report.json", found)
    write_json(out / "prompt.json", prompt)
    for line in found["notes"]:
        progress.say(line)
    for line in found["warnings"]:
        progress.say(f"warning: {line}")
    info = {"rows": {s: len(rows) for s, rows in splits.items()}, "tokens": found["tokens"]}
    progress.say(", ".join(f"{count} {split}" for split, count in info["rows"].items()))
    return info


def _made(
    number: int,
    read: Read,
    config: Data,
    tokenizer: Tokenizer,
    controls: ControlTokens,
    gathered: Gathered,
    progress: Progress,
) -> PartRows:
    """Renders and encodes a source's rows, some blocks at a time."""
    part = read.part
    divided: tuple[Split, ...] = ("train",) if read.missing else ()
    with placed(part):
        guard = guard_of(
            controls,
            config.special_tokens,
            (row for rows in read.rows.values() for row in rows),
            [part.template.model_dump(), tokenizer.chat_template],
        )
        job = Job(config, part, tokenizer, controls, guard, SPLITS if part.name else divided)
        start = gathered.mark()
        heads = _gather(number, read, job, gathered, progress)
        if len({head.conversations.thinking for head, _ in heads}) > 1:
            # Some answers hold reasoning: then all prompts are written for such.
            gathered.back_to(start)
            heads = _gather(number, read, replace(job, thinking=True), gathered, progress)
    head = one_head([head for head, _ in heads])
    return PartRows(read, head, heads[0][1], gathered.texts_of(number))


def _gather(
    number: int, read: Read, job: Job, gathered: Gathered, progress: Progress
) -> list[tuple[Rendering, Sequence[int]]]:
    """Adds what a source's blocks become; returns how each was rendered, and its prefix."""
    units = list(_units(read))
    blocks = sum(map(len, units))
    packed = ([(split, _stored(read, split, n)) for split, n in unit] for unit in units)
    processes = min(cores(), len(units)) if blocks > ALONE else 1
    normalised("")  # its table is made once, and shared
    done = 0
    heads: list[tuple[Rendering, Sequence[int]]] = []
    progress.begin("rows", sum(map(len, read.rows.values())))
    for block in in_order(partial(_of_stored, job), packed, processes):
        gathered.add(block, number, done)
        heads.append((block.head, block.prefix))
        done += len(block.origin)
        progress.step(done)
    progress.end()
    return heads


def _units(read: Read) -> Iterator[list[tuple[Split, int]]]:
    """The blocks of a source, those together that are rendered together."""
    every = [(split, n) for split, rows in read.rows.items() for n in range(len(rows.blocks))]
    together = TEMPLATES[read.part.template.type].together or max(len(every), 1)
    for start in range(0, len(every), together):
        yield every[start : start + together]


def _stored(read: Read, split: Split, number: int) -> Any:
    """A block of rows as it is stored, so that another process takes it apart."""
    blocks = read.rows[split].blocks
    return blocks.packed(number) or blocks[number]


def _of_stored(job: Job, unit: Sequence[tuple[Split, Any]]) -> Block:
    found = [(split, unpacked(rows) if isinstance(rows, bytes) else rows) for split, rows in unit]
    return make_block(job, [(split, row) for split, rows in found for row in rows])


def _texts(examples: Examples, numbers: Numbers) -> int:
    """How many texts examples are of."""
    return int((examples.columns["piece"][numbers] == 0).sum())


def _refuse_long(examples: Examples, numbers: Numbers, config: Data, base: Path) -> None:
    asked = numbers[~examples.flagged(numbers, DOCUMENT)]  # documents are cut
    refuse_long(
        examples.columns["tokens"][asked].tolist(),
        lambda number: examples.where(int(asked[number])),
        config,
        read_context_length(base),
    )


def _write(out: Path, examples: Examples, splits: Mapping[Split, Numbers]) -> None:
    for split, numbers in splits.items():
        write_batches(
            out,
            split,
            examples.batches(numbers),
            source=bool(examples.parts[0].part.name),
            counted=len(examples.counted(numbers)) < len(numbers),
            document=bool(examples.flagged(numbers, DOCUMENT).any()),
        )
