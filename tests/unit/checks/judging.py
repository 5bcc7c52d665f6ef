"""One rule on one recipe: what the tests of the checks have in common."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from slmcompile.base.facts import ModelFacts
from slmcompile.checks.registry import Verdict, all_checks
from slmcompile.data.report_facts import DataFacts
from slmcompile.execution.sync import compile_recipe
from slmcompile.facts.context import CheckContext
from slmcompile.facts.gather import context_of
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from tests.projects import make_project


def make(folder: Path) -> Project:
    """A project of the shipped recipes, groups and data."""
    return Project(make_project(folder.resolve()))


@cache
def context(project: Project, *overrides: str, recipe: str = "tiny") -> CheckContext:
    """What planning knows of a recipe; once for each, as it takes most of a test's time."""
    plan = compile_recipe(project, recipe, overrides)
    return context_of(project, plan, changes(project, plan))


def judged(known: CheckContext, number: int, **others: Any) -> Verdict:
    """What one rule says; ``others`` replaces fields of the context."""
    (rule,) = (check for check in all_checks() if check.number == number)
    return rule.judge(replace(known, **others))


def model_facts(**config: Any) -> ModelFacts:
    """Facts of a model with this ``config.json`` and no more."""
    return ModelFacts("models/mine", {"model_type": "llama", **config}, {}, {}, {}, {}, ())


def data_facts(**rows: int) -> DataFacts:
    """Facts of splits with so many rows."""
    return DataFacts({"counts": rows})


def recipe_file(project: Project, text: str, name: str = "mine") -> str:
    """Writes a recipe and gives its name."""
    (project.recipes / f"{name}.yaml").write_text(text, encoding="utf-8")
    return name
