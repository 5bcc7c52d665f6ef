"""Drift that the project's own files show: generated files, environment, lock, data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from slmcompile.drift.finding import Finding, folded
from slmcompile.execution.last_overrides import how_to_clear
from slmcompile.execution.sync import sync
from slmcompile.files.safe_read import read_or_none
from slmcompile.lock.file import lock_name, read_lock
from slmcompile.lock.references import references, short
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.state import state as ran
from slmcompile.state.dvc_lock import LIST, is_damaged
from slmcompile.state.emit import overrides_path
from slmcompile.state.specs import read_spec

_MAX_CONSTRAINTS = 1 << 20
_OTHER = ("is not what its recipe gives", "files are not what the recipe gives")
_MISSING = ("is missing", "files are missing")
_ORPHAN = ("belongs to no recipe", "paths belong to no recipe")
"""What is wrong with one generated path, and with several."""

# A name and a version as PyPI has them, for both are printed in a command to copy.
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)(?=[\s;#]|$)")


def generated(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Generated files that are not what the recipes give, as ``sync --check`` finds them."""
    done = sync(project, plans, check=True)
    recipes = {
        pipeline.name: plan.recipe for plan in reversed(plans) for pipeline in plan.pipelines
    }
    found: dict[tuple[str, tuple[str, str]], list[str]] = {}
    for path in done.written:
        pipeline = path.split("/")[1]
        recipe = recipes.get(pipeline, f"pipelines/{pipeline}")
        what = _OTHER if (project.root / path).is_file() else _MISSING
        found.setdefault((recipe, what), []).append(path)
    for path in done.removed:
        found.setdefault(("pipelines", _ORPHAN), []).append(path)
    for (recipe, (one, many)), paths in found.items():
        mend = "run `slmcompile sync --all`"
        yield folded("generated", recipe, dict.fromkeys(paths, one), many, mend)


def dvc_lock(project: Project) -> Iterator[Finding]:
    """DVC's list of claims, where a kill has cut it so that `dvc repro` will not start."""
    if is_damaged(project):
        yield Finding(
            "damaged",
            LIST,
            "cut short, so that `dvc repro` refuses to start",
            "`slmcompile run` mends it; so does removing it while DVC does not run",
        )


def overrides(plans: Sequence[Plan]) -> Iterator[Finding]:
    """What a run has left beside a recipe, and every later command uses."""
    for plan in plans:
        if plan.overrides:
            what = f"holds {' '.join(plan.overrides)} of the last run"
            mend = how_to_clear(plan.recipe, plan.overrides)
            yield Finding("overrides", overrides_path(plan.recipe), what, mend)


def environment(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Packages whose installed version is not the one that was committed.

    Compares with ``constraints.txt``, where the project has one, and with the versions in the
    committed spec files.
    """
    wanted = {name: (pinned, "constraints.txt") for name, pinned in _constraints(project)}
    for name, pinned, path in _specs(project, plans):
        wanted.setdefault(name, (pinned, path))
    for name, (pinned, where) in sorted(wanted.items()):
        installed = _installed(name)
        if installed is not None and installed != pinned.split("+")[0]:
            yield Finding(
                "environment",
                name,
                f"{installed} is installed, {where} has {pinned}",
                f"pip install {name}=={pinned}"
                if where == "constraints.txt"
                else f"pip install {name}=={pinned}, or take the new one: `slmcompile sync --all`",
            )


def packages(plans: Sequence[Plan]) -> set[str]:
    """Names of all packages that spec files name."""
    return {_normal(name) for plan in plans for stage in plan.stages() for name in stage.packages}


def lock(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Files that are not what a recipe's lock says."""
    seen: set[str] = set()
    for plan in plans:
        locked = read_lock(project, plan.recipe)
        if locked is None:
            continue
        for reference in references(plan):
            known = locked.entries.get(reference.key)
            if known and reference.found and known != reference.found and reference.key not in seen:
                seen.add(reference.key)
                yield Finding(
                    "lock",
                    reference.key.partition(":")[2],
                    f"{f'of the source {reference.source}: ' if reference.source else ''}"
                    f"{lock_name(plan.recipe)} has {short(known)}, found {short(reference.found)}",
                    "restore it, or run `slmcompile lock --upgrade`",
                )


def inputs(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Files of people's, such as data, that are not what a stage last ran from."""
    seen: set[str] = set()
    for plan in plans:
        locks = {each.name: ran.read_lock(project, each.name) for each in plan.pipelines}
        for stage in plan.stages():
            locked = locks[stage.pipeline].get(stage.name)
            for path in stage.files if locked else ():
                known = locked.deps.get(path) if locked else None
                if known and path not in seen and ran.md5_file(project.root / path) != known:
                    seen.add(path)
                    source = stage.source_of(path)
                    of_source = f"of the source {source} " if source else ""
                    yield Finding(
                        "input",
                        path,
                        f"{of_source}changed since {stage.address} ran",
                        f"run `slmcompile run {plan.recipe}`, or take the file back",
                    )


def _constraints(project: Project) -> Iterator[tuple[str, str]]:
    data = read_or_none(project.root, "constraints.txt", _MAX_CONSTRAINTS) or b""
    for line in data.decode("utf-8", "replace").splitlines():
        found = _PINNED.match(line)
        if found:
            yield _normal(found[1]), found[2]


def _specs(project: Project, plans: Sequence[Plan]) -> Iterator[tuple[str, str, str]]:
    """(package, version, spec file) of every committed spec, shared stages' too."""
    for plan in plans:
        for stage in plan.stages():
            spec = read_spec(project, stage.spec_path) or {}
            for name, pinned in spec.get("packages", {}).items():
                if name in stage.packages and _PINNED.fullmatch(f"{name}=={pinned}"):
                    yield _normal(name), str(pinned), stage.spec_path


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return None
