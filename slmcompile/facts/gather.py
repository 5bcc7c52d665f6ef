"""Gathers what is known about a planned recipe now, without running anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slmcompile.base.facts import read_model_facts
from slmcompile.console.errors import RefusedError
from slmcompile.data.report_facts import read_data_facts
from slmcompile.facts.context import CheckContext
from slmcompile.files.safe_read import check_inside
from slmcompile.machine.device import detect, stated
from slmcompile.plans.definition import Plan
from slmcompile.recipe.policy import load_policy
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Recipe
from slmcompile.sources import MODEL_SOURCES
from slmcompile.state.changes import Change


def contexts_of(
    project: Project, plan: Plan, changes: Sequence[Change], policy_from: str | None = None
) -> dict[str, CheckContext]:
    """A context for each adapter of a planned recipe, by name; of a plain recipe its own."""
    found = {
        name: context_of(project, view, changes, policy_from) for name, view in plan.views.items()
    }
    trained = {name: each.compiled.stage("train").address for name, each in found.items()}
    return {
        name: replace(
            context,
            trained_with=tuple(
                each
                for other, each in found.items()
                if trained[other] == trained[name] and other != name
            ),
        )
        for name, context in found.items()
    }


def context_of(
    project: Project, plan: Plan, changes: Sequence[Change], policy_from: str | None = None
) -> CheckContext:
    """The context of a planned recipe or of one adapter's view of it.

    A stage's facts count only while its output is up to date.

    ``policy_from`` names the git revision whose policy it is held against, if not the working
    tree's.
    """
    recipe = recipe_of(plan.effective)
    base, data = plan.stage("base"), plan.stage("data")
    current = {
        change.stage.address
        for change in changes
        if change.action == "unchanged" or not change.reasons
    }
    folder = base.out if base.address in current else None
    source = recipe.model.source
    if folder is None and (key := MODEL_SOURCES[source.type].folder):
        folder = getattr(source, key)
    return CheckContext(
        project=project,
        name=plan.recipe,
        recipe=recipe,
        device=stated(detect(project.root), recipe.device.memory_gb),
        plan=plan,
        model=read_model_facts(project.root / folder, folder)
        if folder and _plain(project, folder)
        else None,
        data=read_data_facts(project.root / data.out)
        if data.address in current and _plain(project, data.out)
        else None,
        origins=plan.origins,
        policy=load_policy(project, policy_from),
        pending=frozenset(change.stage.kind for change in changes if change.action == "run"),
        untouched=all(change.action == "unchanged" for change in changes),
        member=plan.member,
    )


def _plain(project: Project, folder: str) -> bool:
    """Whether a folder can be read without leaving the project: no link, FIFO or device in it.

    Outputs may have come with a pull request; what cannot be read here counts as not there.
    """
    try:
        if check_inside(project.root, folder, folder) is None:
            return False
        with os.scandir(project.root / folder) as entries:
            return all(
                entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
                for entry in entries
            )
    except (OSError, RefusedError):
        return False


def recipe_of(effective: Mapping[str, Any]) -> Recipe:
    """The typed recipe of a plan's ``effective`` or of a spec, where names may be left out."""
    filled = dict(effective)
    for section in ("model", "data"):
        filled[section] = {"name": section, **effective[section]}
    # Through JSON, where strict mode knows lists as tuples.
    return Recipe.model_validate_json(json.dumps(filled))
