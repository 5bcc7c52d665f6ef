"""Whether a saved plan may still be run: everything it was made from is what it was.

Names the first thing that is not. Reads and hashes; runs and writes nothing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from slmcompile.console.errors import StaleError
from slmcompile.explain.saved import SavedPlan, hashes, state_hashes
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.state.changes import Change
from slmcompile.state.specs import differences


def check_files(project: Project, saved: SavedPlan) -> None:
    """Refuses a saved plan whose recipe, groups or data are not what they were.

    Before anything is compiled, so that an edit that no longer compiles is named as an edit.

    Raises:
        StaleError: names the first file that changed (exit 4).
    """
    for before in (saved.sources, saved.plan.files):
        for what in _moved(before, hashes(project, before)):
            raise _stale(saved, what)


def check_unchanged(project: Project, saved: SavedPlan, now: Plan) -> None:
    """Refuses a saved plan unless everything it was made from is what it was.

    ``now`` is the same recipe with the same overrides, compiled at this moment.

    Raises:
        StaleError: names the first thing that changed (exit 4).
    """
    for what in _changed(project, saved, now):
        raise _stale(saved, what)


def _stale(saved: SavedPlan, what: str) -> StaleError:
    return StaleError(f"{saved.name}: {what} since the plan was made", _anew(saved))


def _anew(saved: SavedPlan) -> str:
    """The command that makes the same plan of what is there now."""
    selected = [word for selector in saved.select for word in ("--select", selector)]
    words = ["plan", saved.plan.recipe, *saved.plan.overrides, *selected, "--out", saved.name]
    return f"plan anew: slmcompile {shlex.join(words)}"


def _changed(project: Project, saved: SavedPlan, now: Plan) -> Iterator[str]:
    yield from _moved(saved.sources, hashes(project, now.own.sources))
    yield from _moved(saved.plan.files, now.files)
    for stage in now.stages():
        was = saved.identities.get(stage.address)
        is_now = {"epochs": {}, **json.loads(json.dumps(stage.identity()))}
        if was is None:
            # Its name is a hash of what it does; packages are the one part no file shows.
            yield from _package_changes(saved, now)
            yield f"the stage {stage.address} is new"
        elif was["packages"] != is_now["packages"]:
            yield from _package_changes(saved, now)
        elif was["epoch"] != is_now["epoch"]:
            yield f"slmcompile's own code for {stage.kind} changed"
        elif raised := differences(was["epochs"], is_now["epochs"]):
            yield f"slmcompile's own code for {next(iter(raised))} changed"
        elif dict(was) != is_now:
            yield f"what {stage.address} does changed"
    yield from _moved(saved.state, state_hashes(project, now))
    if saved.fingerprints != now.fingerprints():
        yield "the plan changed"


def check_same_work(saved: SavedPlan, changes: tuple[Change, ...]) -> None:
    """Refuses if other stages would run than the plan says: outputs or cache have changed.

    Raises:
        StaleError: names the first such stage (exit 4).
    """
    before = {change.stage.address: change.action for change in saved.changes}
    for change in changes:
        then = before.get(change.stage.address)
        if then != change.action:
            raise StaleError(
                f"{saved.name}: {change.stage.address} was {_ACTIONS.get(str(then), then)} when"
                f" the plan was made and is now {_ACTIONS[change.action]}",
                _anew(saved),
            )


_ACTIONS = {"run": "to run", "restore": "to be restored", "unchanged": "unchanged"}


def _package_changes(saved: SavedPlan, now: Plan) -> Iterator[str]:
    before = _packages(saved.identities.values())
    after = _packages(stage.identity() for stage in now.stages())
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"package {name} {before.get(name, 'none')} → {after.get(name, 'none')} changed"


def _packages(identities: Any) -> dict[str, str]:
    return {name: v for identity in identities for name, v in identity["packages"].items()}


def _moved(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> Iterator[str]:
    for path in (*before, *(path for path in after if path not in before)):
        old, new = before.get(path), after.get(path)
        if old != new:
            yield f"{path} {'changed' if old and new else 'appeared' if new else 'is gone'}"
