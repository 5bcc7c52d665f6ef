"""Check 20: training makes steps that count, and the cadences fall inside it."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from pathlib import Path, PurePosixPath

from slmcompile.checks.precedence import contradicts
from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.data.compression import compression_of
from slmcompile.data_steps import DATA_STEPS
from slmcompile.estimate.steps import plan_steps
from slmcompile.facts.context import CheckContext
from slmcompile.methods.keys import Train
from slmcompile.recipe.data_parts import Part
from slmcompile.sources.of_data.file import FileData
from slmcompile.templates import TEMPLATES

_COUNTED_BYTES = 16 << 20
"""Largest file whose lines are counted while planning (about 10 ms)."""

_LENGTH = (
    "train.max_steps",
    "train.num_train_epochs",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "data.source",
    "data.sources",
)
"""Keys that say how many steps there are."""


@check(
    20,
    "steps-that-count",
    "a run of no steps, or one whose learning rate never leaves zero, ends well and learns nothing",
    needs=("C", "D"),
)
def steps_that_count(context: CheckContext) -> Verdict:
    """At least one step; warm-up shorter than training; a cadence that was stated is reached.

    Fewer rows never make more steps, and warm-up that leaves room in n steps leaves it in more: so
    the bounds that are known without the rows often suffice. Whatever ``eval_steps`` is, the last
    step is validated.
    """
    train = context.recipe.train
    rows = context.data.rows.get("train", 0) if context.data else None
    if rows == 0:
        return refuted(
            "the train split has no rows, so there is no step",
            "give the split some rows (data.split)",
            context.at(context.recipe.data.source_key),
            Exit.BAD_DATA,
        )
    if unreached := _unreached(context, train):
        return unreached
    steps = plan_steps(train, rows or 1)
    exact = rows is not None or train.max_steps > 0
    if _warm_up(train, steps.max_steps) >= steps.max_steps:
        if not exact:
            return needs_probe(context.data_stage, "how many rows, and so steps, there are")
        fate = "leaves zero" if steps.max_steps == 1 else "reaches its peak"
        return refuted(
            f"warm-up takes {_warm_up(train, steps.max_steps)} of {_steps(steps.max_steps)}:"
            f" the learning rate never {fate}",
            "train.warmup_ratio=0, or train longer",
            context.at("train.warmup_ratio"),
        )
    if not exact:
        return proved(f"at least {_steps(steps.max_steps)}, more than warm-up takes of any number")
    return proved(
        f"{_steps(steps.max_steps)}, {_warm_up(train, steps.max_steps)} of warm-up,"
        f" {ceil(steps.max_steps / train.eval_steps)} validated"
    )


def _warm_up(train: Train, steps: int) -> int:
    """Steps of warm-up that the schedule makes."""
    return 0 if train.lr_scheduler_type == "constant" else ceil(steps * train.warmup_ratio)


def _unreached(context: CheckContext, train: Train) -> Verdict | None:
    """A cadence that the same person stated and that no run of this recipe reaches.

    From what planning knows alone, so that the answer is the same before and after a run. A
    ``max_steps`` that is too short is check 18's.
    """
    most = _most_rows(context) if context.plan is not None and train.max_steps <= 0 else None
    if most is None:
        return None
    steps = plan_steps(train, most).max_steps
    for name in ("eval_steps", "save_steps"):
        key = f"train.{name}"
        if getattr(train, name) > steps and contradicts(context, key, *_LENGTH):
            return refuted(
                f"{key}={getattr(train, name)} is never reached: {most} rows make at most"
                f" {_steps(steps)}",
                f"lower {key}, or remove it",
                context.at(key),
            )
    return None


def _most_rows(context: CheckContext) -> int | None:
    """An upper bound of the training rows: lines of the files; None where lines are no rows."""
    found = [_most_rows_of_part(part, context) for part in context.recipe.data.parts]
    known = [rows for rows in found if rows is not None]
    return sum(known) if len(known) == len(found) else None


def _most_rows_of_part(part: Part, context: CheckContext) -> int | None:
    source = part.source
    # A conversation may become an example for each of its turns, and training see rows again.
    if part.repeat or not TEMPLATES[part.template.type].one_example:
        return None
    if any(not DATA_STEPS[step.type].row_by_row for step in part.steps):
        return None
    if not isinstance(source, FileData) or source.encoding != "utf-8":
        return None
    found = [_most_rows_of(path, source, context) for path in source.paths.get("train", ())]
    known = [rows for rows in found if rows is not None]
    return sum(known) if len(known) == len(found) else None


def _most_rows_of(path: str, source: FileData, context: CheckContext) -> int | None:
    suffix = f".{source.format}" if source.format != "auto" else PurePosixPath(path).suffix
    if suffix not in {".jsonl", ".csv", ".tsv"} or compression_of(path):
        return None
    known = context.plan.files.get(path) if context.plan else None
    return _lines(context.project.root / path, known)


@lru_cache(maxsize=64)
def _lines(path: Path, _sha256: str | None) -> int | None:
    """Many recipes read the same rows; they are counted once."""
    try:
        if path.stat().st_size > _COUNTED_BYTES:
            return None
        raw = path.read_bytes()
    except OSError:
        return None
    # CSV also ends its lines with \r alone.
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n") + 1


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
