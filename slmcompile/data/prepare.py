"""The data stage's work: rows of sources to tokenized, checked, split Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slmcompile.base.facts import read_context_length
from slmcompile.console.errors import BadDataError
from slmcompile.console.progress import Progress
from slmcompile.data.control_tokens import ControlTokens
from slmcompile.data.describe import report
from slmcompile.data.divide import Example, divide, smallest
from slmcompile.data.documents import MOST_PIECES, pieces_of
from slmcompile.data.duplicates import contradictions, first_of_each
from slmcompile.data.encode import Encoded, encode
from slmcompile.data.facts import row_facts
from slmcompile.data.labels import label_of
from slmcompile.data.part_rows import PartRows, Texts, placed, read_part, render_part
from slmcompile.data.prompt import describe_prompts
from slmcompile.data.rows import Rendered
from slmcompile.data.same_ids import compare_all
from slmcompile.data.source_report import document_counts, source_reports
from slmcompile.data.store import Row, write_split
from slmcompile.data.tokenizer import Tokenizer, control_tokens, load_tokenizer
from slmcompile.data.too_long import refuse_long
from slmcompile.files.artifact import write_json
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS


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
    ``prompt.json`` into ``out``. Equal input gives equal bytes.

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
    read = [read_part(part, project, roots, progress) for part in config.parts]
    tokenizer = load_tokenizer(base)
    controls = control_tokens(tokenizer)
    parts = [render_part(each, config, tokenizer, controls) for each in read]
    kept = _without_duplicates(parts)
    examples: list[Example] = []
    too_long: list[tuple[Rendered, PartRows]] = []
    window, first = read_context_length(base), 0
    stride = 1 if all(rows.asks for rows in parts) else MOST_PIECES
    for rows, numbers in zip(parts, kept, strict=True):
        with placed(rows.part):
            for number, text, ids in _encoded(rows, numbers, config, window, tokenizer, controls):
                if len(ids.input_ids) <= config.max_length:
                    row = _row((first + number) * stride + text.piece, text, ids, config, rows)
                    examples.append(Example(row, text, rows.origin[number], rows))
                else:
                    too_long.append((text, rows))
        first += len(rows.rendering.rows)
    try:
        divided = divide(examples, config, parts)
    except BadDataError as error:
        if not too_long:
            raise
        raise BadDataError(
            f"{error.what}; {len(too_long)} of {sum(map(len, kept))} rows are longer than"
            " data.max_length and were dropped",
            f"raise data.max_length, or {error.mend}",
        ) from error
    splits = divided.splits
    prompt = describe_prompts(config, parts, controls)
    texts = Texts({each.row.id: (each.text, each.rows) for each in examples})
    facts = row_facts(
        config,
        splits,
        texts,
        parts,
        tokenizer,
        too_long=[text for text, rows in too_long if rows.part.counted],
        strata=smallest(examples, config, parts),
        same_ids=compare_all(splits, texts, parts, prompt, tokenizer, base),
    )

    for split, of_split in splits.items():
        write_split(out, split, of_split)
    rendered = sum(len(rows.rendering.rows) for rows in parts)
    found = report(
        splits,
        parts,
        tokenizer=tokenizer,
        labelled=config.labelled,
        duplicates=rendered - sum(map(len, kept)),
        too_long=[text.row.where for text, _ in too_long],
        max_length=config.max_length,
        contradicting=contradictions(
            rows.rendering.rows[n]
            for rows, numbers in zip(parts, kept, strict=True)
            for n in numbers
        ),
        facts=facts,
        sources=source_reports(divided, parts, kept, tokenizer),
        documents=document_counts(examples),
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


def _without_duplicates(parts: Sequence[PartRows]) -> list[list[int]]:
    """Rows to keep of each source; of rows that several have, the first source's of the task.

    Repeats in different given splits are leaks and stay, to be reported.
    """
    kept: list[list[int]] = [[] for _ in parts]
    order = sorted(range(len(parts)), key=lambda at: not parts[at].part.counted)
    for split in SPLITS:
        numbers = [
            (at, n) for at in order for n, place in enumerate(parts[at].origin) if place == split
        ]
        for index in first_of_each([parts[at].rendering.rows[n] for at, n in numbers]):
            at, n = numbers[index]
            kept[at].append(n)
    return kept


def _encoded(
    rows: PartRows,
    numbers: Sequence[int],
    config: Data,
    window: int | None,
    tokenizer: Tokenizer,
    controls: ControlTokens,
) -> Iterator[tuple[int, Rendered, Encoded]]:
    """Each text with its number among the source's and its ids; of long documents each piece.

    Raises:
        BadDataError: see ``encode``; or a text is too long and may not be dropped.
    """
    if not numbers:
        return  # all are repeats of another source's
    texts = [rows.rendering.rows[n] for n in numbers]
    encoded = encode(texts, tokenizer, rows.rendering.stop, rows.prefix, controls)
    if not rows.asks:
        for number, text, whole in zip(numbers, texts, encoded, strict=True):
            for piece, ids in pieces_of(text, whole, tokenizer, config.max_length):
                yield number, piece, ids
        return
    refuse_long(texts, encoded, config, window)
    yield from zip(numbers, texts, encoded, strict=True)


def _row(number: int, text: Rendered, ids: Encoded, config: Data, rows: PartRows) -> Row:
    key = config.label if rows.part.counted and rows.asks else None
    label = label_of(text.completion, key) if rows.asks else ""
    if label is None:
        raise BadDataError(
            f"{text.row.where}: the completion is no JSON object with a value for "
            f"{key!r} (data.label)",
            "correct the row's answer or data.label",
        )
    row = Row(
        id=number,
        prompt=text.prompt,
        completion=text.completion,
        label=label,
        prompt_ids=ids.prompt_ids,
        input_ids=ids.input_ids,
        labels=ids.labels,
        prompt_cuts=list(text.prompt_cuts),
    )
    return replace(row, source=rows.part.name, counted=rows.part.counted, document=not rows.asks)
