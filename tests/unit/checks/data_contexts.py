"""A planned recipe with facts of rows and model as the stages leave them, to be spoilt by tests."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from slmcompile.base.facts import ModelFacts
from slmcompile.checks.judge import judge
from slmcompile.checks.registry import Finding, Verdict, all_checks
from slmcompile.data.report_facts import DataFacts, RowFacts, SameIds, Stratum
from slmcompile.execution.sync import compile_recipe
from slmcompile.facts.context import CheckContext
from slmcompile.facts.gather import context_of
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes

GOOD = RowFacts(
    least_trained=2,
    least_trained_at="rows.jsonl:1",
    mask_differs=0,
    mask_differs_at="",
    stop_trained=480,
    pad_id=0,
    doubled={"BOS": 0, "EOS": 0},
    doubled_at="",
    roles={},
    leaks_exact={"validation_in_train": 0, "test_in_train": 0, "test_in_validation": 0},
    leaks_normalised={"validation_in_train": 0, "test_in_train": 0, "test_in_validation": 0},
    longest_tested=((1, 1),),
    labels_lost=(),
    never_trained={},
    strata=Stratum("on", 120, 3),
    given_away=10,
    same_ids=SameIds(64, 64, "a", "a", "a", ""),
    spelled=0,
    several_writings=(),
)

MODEL = ModelFacts(
    where="outputs/base",
    config={"max_position_embeddings": 256},
    generation={"eos_token_id": 2},
    tokenizer={"chat_template": "x"},
    tensors={},
    dtypes={},
    files=(),
)


def data_facts(report: dict[str, Any] | None = None, **spoilt: Any) -> DataFacts:
    """Facts of 480 rows; ``report`` replaces parts of the report, ``spoilt`` parts of its facts."""
    good: dict[str, Any] = {
        "counts": {"train": 336, "validation": 72, "test": 72},
        "read": 480,
        "dropped": {"duplicates": 0, "too_long": {"count": 0, "where": []}},
        "max_length": 64,
        "contradicting": {"count": 0, "listed": []},
        "lengths": {"total": {"max": 10, "mean": 9.0}},
        "tokens": {"train": {"total": 3024, "trained": 672}},
        "stop": {"id": 2, "text": "<|im_end|>"},
        "facts": asdict(replace(GOOD, **spoilt)),
    }
    return DataFacts(good | (report or {}))


def planned(project: Path, *overrides: str, recipe: str = "tiny", **known: Any) -> CheckContext:
    """The context of a recipe, with overrides, and what else is known."""
    return replace(_planned(project, recipe, overrides), **known)


@cache
def _planned(project: Path, recipe: str, overrides: tuple[str, ...]) -> CheckContext:
    found = Project(project)
    plan = compile_recipe(found, recipe, overrides)
    return context_of(found, plan, changes(found, plan))


def verdict(number: int, context: CheckContext) -> Verdict:
    """What one rule finds."""
    return finding(number, context).verdict


def finding(number: int, context: CheckContext) -> Finding:
    """One rule and what it finds."""
    return judge(context, [check for check in all_checks() if check.number == number])[0]
