"""What a recipe refers to outside itself, as a lock names it, and what each stands for here.

Pure: the hashes of local files come from the plan, which has read them already.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from slmcompile.hub.commit import is_commit
from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Plan
from slmcompile.plans.names import named_files
from slmcompile.recipe.members import ADAPTERS, typed
from slmcompile.recipe.schema import Recipe
from slmcompile.sources import MODEL_SOURCES
from slmcompile.sources.keys import HubKeys, RepoKind, SourceKeys


@dataclass(frozen=True)
class Reference:
    """One thing outside the recipe.

    Attributes:
        key: its name in the lock (``file:data/x.jsonl``, ``model:owner/name@main``).
        origin: the recipe key that refers to it.
        found: what it stands for here, ``sha256:…`` or ``commit:…``; None where only the hub knows.
        hub: what to ask the hub for, if it is of the hub: kind, repository, revision.
        source: the name of the source that it is of, where there are several.
    """

    key: str
    origin: tuple[str, ...]
    found: str | None
    hub: tuple[RepoKind, str, str | None] | None = None
    source: str = ""


def hub_key(source: HubKeys) -> str:
    """Its name in the lock."""
    return f"{source.kind}:{source.repo_id}{f'@{source.revision}' if source.revision else ''}"


def hub_reference(source: HubKeys, at: tuple[str, ...]) -> Reference:
    """A model or data set of the hub; ``at`` is the recipe's key of the source."""
    return Reference(
        key=hub_key(source),
        origin=(*at, "revision"),
        found=f"commit:{source.revision}" if is_commit(source.revision) else None,
        hub=(source.kind, source.repo_id, source.revision),
    )


def references(plan: Plan) -> tuple[Reference, ...]:
    """Everything that a recipe refers to, model first."""
    found: dict[Reference, None] = {}
    for member, view in plan.views.items():
        above = (ADAPTERS, member) if member and not plan.member else ()
        for each in _references(typed(dict(view.effective)), view):
            own = each.origin[0] != "model"
            found[replace(each, origin=(*above, *each.origin)) if own else each] = None
    return tuple(found)


def _references(recipe: Recipe, plan: Plan) -> Iterator[Reference]:
    base, data = plan.stage("base"), plan.stage("data")
    yield from _of_model(recipe.model.source, base.files, plan.files)
    for part in recipe.data.parts:
        if isinstance(part.source, HubKeys):
            yield hub_reference(part.source, tuple(part.key("data.source").split(".")))
    for path, key in named_files(data.config, data.names, data.files):
        # One key of several, as the files of all splits are one thing that a lock knows.
        at = ("data", *key.split("."))
        origin = at[: at.index("source") + 2]
        for each in _files((path,), plan.files, origin):
            yield replace(each, source=data.source_of(path))
    # Code of the project.
    train = plan.stage("train")
    for path, key in named_files(train.config, train.names, train.files):
        yield from _files((path,), plan.files, ("train", *key.split(".")))
    # Files that metrics read.
    score = plan.stage("score")
    for key in score.names:
        yield from _files((score.config[key],), plan.files, ("eval", key))


def _files(
    paths: tuple[str, ...], hashes: Mapping[str, str], origin: tuple[str, ...]
) -> list[Reference]:
    return [Reference(f"file:{path}", origin, f"sha256:{hashes[path]}") for path in paths]


def _of_model(
    source: SourceKeys, paths: tuple[str, ...], hashes: Mapping[str, str]
) -> list[Reference]:
    entry, at = MODEL_SOURCES[source.type], ("model", "source")
    found = [hub_reference(source, at)] if isinstance(source, HubKeys) else []
    if pinned := entry.pinned(source):
        found.append(Reference(pinned.name, (*at, pinned.key), f"sha256:{pinned.sha256}"))
    if entry.folder:
        # One reference: another, a missing and an added file all change its hash.
        folder = posixpath.normpath(getattr(source, entry.folder))
        value = digest({path: hashes[path] for path in paths})
        found.append(Reference(f"folder:{folder}", (*at, entry.folder), f"sha256:{value}"))
    elif entry.file:
        found += _files(paths, hashes, (*at, entry.file))
    return found


def short(value: str) -> str:
    """The first digits of a locked commit or hash, for messages."""
    return value.partition(":")[2][:12]
