"""The data stage's work: rows of a source to tokenized, checked, split Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.base.facts import read_context_length
from slmcompile.console.errors import BadDataError
from slmcompile.console.progress import Progress
from slmcompile.data.describe import how_read, report
from slmcompile.data.duplicates import contradictions, first_of_each
from slmcompile.data.encode import Encoded, encode, prefix_ids
from slmcompile.data.facts import row_facts
from slmcompile.data.guard import guard_of
from slmcompile.data.labels import label_of
from slmcompile.data.normal_label import normal_answer, normal_text
from slmcompile.data.prompt import describe_prompt
from slmcompile.data.render import render
from slmcompile.data.report_facts import Stratum
from slmcompile.data.rows import Rendered, as_text
from slmcompile.data.same_ids import compare
from slmcompile.data.source import read
from slmcompile.data.split import Item, assign, smallest_stratum
from slmcompile.data.steps import stepped
from slmcompile.data.store import Row, write_split
from slmcompile.data.tokenizer import control_tokens, load_tokenizer
from slmcompile.files.artifact import write_json
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS, Split
from slmcompile.templates import TEMPLATES


@dataclass(frozen=True, slots=True)
class _Example:
    row: Row
    source: Rendered
    split: Split


def prepare(
    config: Data,
    project: Path,
    base: Path,
    out: Path,
    progress: Progress,
    roots: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads, checks, renders, tokenizes and splits the recipe's data.

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
    read_from = read(config.source, project, roots)
    files = read_from.files
    for line in how_read(files):
        progress.say(line)
    of = f" from {len(files)} files" if len(files) > 1 else ""
    progress.say(f"{sum(map(len, read_from.of.values()))} rows read{of}")
    source, done = stepped(read_from.of, config.steps, config.columns)
    tokenizer = load_tokenizer(base)
    every = [row for rows in source.values() for row in rows]
    split_of = [split for split, rows in source.items() for _ in rows]
    controls = control_tokens(tokenizer)
    written_by_templates = [config.template.model_dump(), tokenizer.chat_template]
    guard = guard_of(controls, config.special_tokens, every, written_by_templates)
    rendering = render(
        every, config.template, config.columns, tokenizer, guard, _normal_answer(config)
    )
    origin = [split_of[each.source] for each in rendering.rows]
    kept = _without_duplicates(rendering.rows, origin)
    prefix = [] if TEMPLATES[config.template.type].chat else prefix_ids(tokenizer)
    encoded = encode([rendering.rows[n] for n in kept], tokenizer, rendering.stop, prefix, controls)
    _refuse_long([rendering.rows[n] for n in kept], encoded, config, read_context_length(base))
    examples: list[_Example] = []
    too_long: list[Rendered] = []
    for number, ids in zip(kept, encoded, strict=True):
        rendered = rendering.rows[number]
        if len(ids.input_ids) <= config.max_length:
            row = _row(number, rendered, ids, config.label)
            examples.append(_Example(row, rendered, origin[number]))
        else:
            too_long.append(rendered)
    try:
        splits = _split(examples, config, set(source))
    except BadDataError as error:
        if not too_long:
            raise
        raise BadDataError(
            f"{error.what}; {len(too_long)} of {len(kept)} rows are longer than data.max_length "
            "and were dropped",
            f"raise data.max_length, or {error.mend}",
        ) from error
    prompt = describe_prompt(config, rendering, prefix, controls)
    written = [row for rows in splits.values() for row in rows]
    facts = row_facts(
        config,
        splits,
        rendering,
        tokenizer,
        too_long=too_long,
        strata=_smallest_stratum(examples, config, set(source)),
        same_ids=compare(config, written, rendering, prompt, tokenizer, base),
    )

    for split, rows in splits.items():
        write_split(out, split, rows)
    found = report(
        splits,
        tokenizer=tokenizer,
        template=config.template.model_dump(mode="json"),
        stop=rendering.stop,
        labelled=config.labelled,
        read=len(rendering.rows),
        conversations=rendering.conversations,
        duplicates=len(rendering.rows) - len(kept),
        too_long=[each.row.where for each in too_long],
        max_length=config.max_length,
        contradicting=contradictions(rendering.rows[n] for n in kept),
        facts=facts,
        files=files,
        steps=done,
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


def _normal_answer(config: Data) -> Callable[[str], str]:
    return lambda text: normal_answer(text, config.label, config.label_steps)


def _without_duplicates(rows: Sequence[Rendered], origin: Sequence[Split]) -> list[int]:
    """Rows to keep. Repeats in different given splits are leaks and stay, to be reported."""
    kept: list[int] = []
    for split in SPLITS:
        numbers = [n for n, place in enumerate(origin) if place == split]
        kept += [numbers[n] for n in first_of_each([rows[n] for n in numbers])]
    return kept


def _refuse_long(
    rows: Sequence[Rendered], encoded: Sequence[Encoded], config: Data, window: int | None
) -> None:
    """Raises BadDataError where rows that are too long may not be dropped, or all would be.

    It names the longest row, by which all of them would fit, or else the model's context.
    """
    lengths = [len(ids.input_ids) for ids in encoded]
    limit, longest = config.max_length, max(lengths, default=0)
    count = sum(length > limit for length in lengths)
    if not count or (config.too_long == "drop" and count < len(rows)):
        return
    where = rows[lengths.index(longest)].row.where
    if config.too_long == "drop":
        raise BadDataError(
            f"all {count} rows are longer than data.max_length={limit};"
            f" the longest is {where} with {longest} tokens",
            _how_to_fit(lengths, limit, window, "or shorten the rows"),
        )
    others = f"; {count} rows are longer, this is the longest" if count > 1 else ""
    raise BadDataError(
        f"{where}: {longest} tokens, data.max_length is {limit}{others}",
        _how_to_fit(lengths, limit, window, "or data.too_long=drop"),
    )


def _how_to_fit(lengths: Sequence[int], limit: int, window: int | None, otherwise: str) -> str:
    """What to do about rows of these lengths; nothing that the model's context does not hold."""
    if window is None or max(lengths) <= window:
        return f"set data.max_length={max(lengths)}, {otherwise}"
    if min(lengths) > window:
        return f"shorten the rows: the base model's context is {window} tokens"
    raised = f"data.max_length={window} and " if limit != window else ""
    return (
        f"set {raised}data.too_long=drop, or shorten the rows:"
        f" the base model's context is {window} tokens"
    )


def _row(number: int, rendered: Rendered, ids: Encoded, label_key: str | None) -> Row:
    label = label_of(rendered.completion, label_key)
    if label is None:
        raise BadDataError(
            f"{rendered.row.where}: the completion is no JSON object with a value for "
            f"{label_key!r} (data.label)",
            "correct the row's answer or data.label",
        )
    return Row(
        id=number,
        prompt=rendered.prompt,
        completion=rendered.completion,
        label=label,
        prompt_ids=ids.prompt_ids,
        input_ids=ids.input_ids,
        labels=ids.labels,
        prompt_cuts=list(rendered.prompt_cuts),
    )


def _split(examples: Sequence[_Example], config: Data, given: set[Split]) -> dict[Split, list[Row]]:
    """The rows of each split; splits that the source does not give are taken from train."""
    splits: dict[Split, list[Row]] = {
        split: [each.row for each in examples if each.split == split] for split in SPLITS
    }
    missing = [split for split in SPLITS if split not in given]
    if missing:
        pool = [each for each in examples if each.split == "train"]
        chosen = assign(
            [_item(each, config) for each in pool],
            _ratios(config, missing),
            config.seed,
            cover=config.split.strategy == "group",
        )
        for split in ("train", *missing):
            splits[split] = [
                each.row for each, place in zip(pool, chosen, strict=True) if place == split
            ]
    for split, rows in splits.items():
        if not rows:
            raise BadDataError(f"data.split: the {split} split has no rows left", "add rows")
    return splits


def _smallest_stratum(
    examples: Sequence[_Example], config: Data, given: set[Split]
) -> Stratum | None:
    """The stratum that a stratified split can spread least; None where nothing is stratified."""
    made = [split for split in SPLITS if split not in given]
    if config.split.strategy != "stratified" or not made:
        return None
    pool = [each for each in examples if each.split == "train"]
    name, prompts = smallest_stratum([_item(each, config) for each in pool])
    return Stratum(name, prompts, 1 + len(made))


def _ratios(config: Data, missing: Sequence[Split]) -> Mapping[Split, float]:
    shares: dict[Split, float] = {"validation": config.split.validation, "test": config.split.test}
    wanted = {split: share for split, share in shares.items() if split in missing}
    return {"train": 1.0 - sum(wanted.values()), **wanted}


def _item(each: _Example, config: Data) -> Item:
    rule = config.split
    prompt, together = each.row.prompt, each.source.together
    if rule.strategy == "random":
        return Item(prompt, together=together)
    if rule.by is None:  # a group split always names its column
        return Item(prompt, each.row.label, together=together)
    value = as_text(each.source.row, rule.by, config.columns)
    if rule.strategy == "group":
        return Item(prompt, each.row.label, value, together)
    return Item(prompt, normal_text(value, config.label_steps), together=together)
