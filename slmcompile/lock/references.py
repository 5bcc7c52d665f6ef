"""What a recipe refers to outside itself, as a lock names it, and what each stands for here.

Pure: the hashes of local files come from the plan, which has read them already.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from slmcompile.hub.commit import RepoKind, is_commit
from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Plan
from slmcompile.recipe.schema import (
    FileData,
    FolderModel,
    HubData,
    HubModel,
    PackageModel,
    Recipe,
)


@dataclass(frozen=True)
class Reference:
    """One thing outside the recipe.

    Attributes:
        key: its name in the lock (``file:data/x.jsonl``, ``model:owner/name@main``).
        origin: the recipe key that refers to it.
        found: what it stands for here, ``sha256:…`` or ``commit:…``; None where only the hub knows.
        hub: what to ask the hub for, if it is of the hub: kind, repository, revision.
    """

    key: str
    origin: tuple[str, ...]
    found: str | None
    hub: tuple[RepoKind, str, str | None] | None = None


def hub_reference(source: HubModel | HubData) -> Reference:
    """A model or data set of the hub."""
    kind: RepoKind = "model" if isinstance(source, HubModel) else "dataset"
    at = f"@{source.revision}" if source.revision else ""
    return Reference(
        key=f"{kind}:{source.repo_id}{at}",
        origin=("model" if kind == "model" else "data", "source", "revision"),
        found=f"commit:{source.revision}" if is_commit(source.revision) else None,
        hub=(kind, source.repo_id, source.revision),
    )


def references(recipe: Recipe, plan: Plan) -> tuple[Reference, ...]:
    """Everything that a recipe refers to, model first; ``plan`` is the recipe's own."""
    base, data = plan.stage("base"), plan.stage("data")
    found: list[Reference] = []
    source = recipe.model.source
    if isinstance(source, HubModel):
        found.append(hub_reference(source))
    elif isinstance(source, PackageModel):
        key = f"package:{source.package}=={source.version}"
        found.append(Reference(key, ("model", "source", "sha256"), f"sha256:{source.sha256}"))
    elif isinstance(source, FolderModel):
        found.append(_folder(source, base.files, plan.files))
    else:
        found += _files(base.files, plan.files, ("model", "source", "tokenizer_text"))
    rows = recipe.data.source
    if isinstance(rows, FileData):
        origin = ("data", "source", "path" if rows.path else "files")
        found += _files(data.files, plan.files, origin)
    else:
        found.append(hub_reference(rows))
    # Files that metrics read.
    score = plan.stage("score")
    for key in score.names:
        found += _files((score.config[key],), plan.files, ("eval", key))
    return tuple(found)


def _files(
    paths: tuple[str, ...], hashes: Mapping[str, str], origin: tuple[str, ...]
) -> list[Reference]:
    return [Reference(f"file:{path}", origin, f"sha256:{hashes[path]}") for path in paths]


def _folder(source: FolderModel, paths: tuple[str, ...], hashes: Mapping[str, str]) -> Reference:
    """A folder is one reference: another, a missing and an added file all change its hash."""
    folder = posixpath.normpath(source.path)
    value = digest({path: hashes[path] for path in paths})
    return Reference(f"folder:{folder}", ("model", "source", "path"), f"sha256:{value}")


def short(value: str) -> str:
    """The first digits of a locked commit or hash, for messages."""
    return value.partition(":")[2][:12]
