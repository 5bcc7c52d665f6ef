"""Drift that the project's own files show: generated files, environment, lock."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from slmcompile.drift.finding import Finding
from slmcompile.lock.file import NAME, read_lock
from slmcompile.lock.references import references
from slmcompile.pipeline.sync import sync
from slmcompile.planning.definition import Plan
from slmcompile.project import Project
from slmcompile.recipe.schema import Recipe

_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;#]+)")


def generated(project: Project, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Generated files that are not what the recipes give, as ``sync --check`` finds them."""
    done = sync(project, plans, check=True)
    mend = "run `slmcompile sync --all`"
    for path in done.written:
        there = (project.root / path).is_file()
        what = "is not what its recipe gives" if there else "is missing"
        yield Finding("generated", path, what, mend)
    for path in done.removed:
        yield Finding("generated", path, "belongs to no recipe", mend)


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
    """Files that are not what ``slmcompile.lock`` says."""
    locked = read_lock(project)
    seen: set[str] = set()
    for plan in plans if locked else ():
        recipe = Recipe.model_validate_json(json.dumps(plan.effective))
        for reference in references(recipe, plan):
            known = locked.entries.get(reference.key) if locked else None
            if known and reference.found and known != reference.found and reference.key not in seen:
                seen.add(reference.key)
                yield Finding(
                    "lock",
                    reference.key.partition(":")[2],
                    f"{NAME} has {_short(known)}, found {_short(reference.found)}",
                    "restore it, or run `slmcompile lock --upgrade`",
                )


def _short(value: str) -> str:
    return value.partition(":")[2][:12]


def _constraints(project: Project) -> Iterator[tuple[str, str]]:
    path = project.root / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        found = _PINNED.match(line)
        if found:
            yield _normal(found[1]), found[2]


def _specs(project: Project, plans: Sequence[Plan]) -> Iterator[tuple[str, str, str]]:
    """(package, version, spec file) of every committed spec of the recipes' own stages."""
    for plan in plans:
        for stage in plan.stages():
            try:
                spec = json.loads((project.root / stage.spec_path).read_text(encoding="utf-8"))
                packages = dict(spec["packages"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            for name, pinned in packages.items():
                yield _normal(str(name)), str(pinned), stage.spec_path


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return None
