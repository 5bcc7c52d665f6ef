"""Puts the looks together: which are free, and which read every byte or ask a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slmcompile.console.printable import printable
from slmcompile.console.terminal import print_json
from slmcompile.drift import artifacts, files
from slmcompile.drift.finding import Finding
from slmcompile.execution.sync import compile_recipe
from slmcompile.hub.commit import commit_of
from slmcompile.lock.file import lock_name, read_lock
from slmcompile.lock.references import hub_reference
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project, find_project
from slmcompile.sources.keys import HubKeys


def drift(
    project: Project,
    recipes: Sequence[str] = (),
    *,
    deep: bool = False,
    remote: bool = False,
    upstream: bool = False,
) -> tuple[Finding, ...]:
    """What has drifted; runs and writes nothing.

    Args:
        project: the project.
        recipes: names; none means every recipe.
        deep: read every output's bytes.
        remote: ask the default DVC remote what it lacks.
        upstream: ask the hub where locked branches and tags are now.

    Raises:
        MissingError: a network was asked and is out of reach (exit 69).
    """
    names = list(recipes or project.names())
    plans = [compile_recipe(project, name) for name in names]
    found = [
        *files.dvc_lock(project),
        *files.overrides(plans),
        *files.environment(project, plans),
    ]
    # Another package that specs name makes every spec another: one root cause, named already.
    other = {finding.subject for finding in found if finding.kind == "environment"}
    if not other & files.packages(plans):
        found += files.generated(project, plans)
    found += files.lock(project, plans)
    pinned = {finding.subject for finding in found if finding.kind == "lock"}
    found += (each for each in files.inputs(project, plans) if each.subject not in pinned)
    found += artifacts.cache(project, plans, deep=deep)
    if remote:
        found += artifacts.remote(project, plans)
    if upstream:
        found += _moved(project, names)
    return tuple(found)


def _moved(project: Project, names: Sequence[str]) -> Iterator[Finding]:
    """Branches and tags that a lock knows at another commit than the hub does now."""
    wanted = {}
    for name in names:
        lock = read_lock(project, name)
        entries = lock.entries if lock else {}
        composed = compose(project, name)
        rows = [
            (part.key("data.source"), part.source)
            for view in composed.members.values()
            for part in view.recipe.data.parts
        ]
        for key, source in [("model.source", composed.whole.model.source), *rows]:
            if isinstance(source, HubKeys):
                reference = hub_reference(source, tuple(key.split(".")))
                if reference.found is None and reference.key in entries:
                    wanted[reference.key] = (reference, entries[reference.key], lock_name(name))
    for key, (reference, known, file) in sorted(wanted.items()):
        assert reference.hub is not None  # noqa: S101 (made by hub_reference)
        now = commit_of(*reference.hub)
        locked = known.partition(":")[2]
        if now != locked:
            yield Finding(
                "upstream",
                key.partition(":")[2],
                f"moved from {locked[:12]} to {now[:12]} since {file} was written",
                "run `slmcompile lock --upgrade` to take it, or leave it",
            )


def answer(recipe: str | None, *, deep: bool, remote: bool, upstream: bool, as_json: bool) -> int:
    """Prints what ``slmcompile drift`` found and returns how many there are."""
    recipes = [recipe] if recipe else []
    found = drift(find_project(), recipes, deep=deep, remote=remote, upstream=upstream)
    if as_json:
        document = {"format_version": "2.0", "findings": [finding.as_json() for finding in found]}
        print_json(document)
    elif found:
        print("\n".join(printable(finding.line()) for finding in found))
    else:
        print("no drift")
    return len(found)
