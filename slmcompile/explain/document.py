"""What a plan file may hold: its parts typed, and each reference to something that is there.

The hash in a plan file says that nothing was edited by mistake; anybody can compute it anew, so it
says nothing of what a stranger wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from slmcompile.files.safe_read import leads_out
from slmcompile.plans.definition import Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.limits import is_bounded
from slmcompile.registry.scalars import Identifier, Sha256
from slmcompile.state.changes import Action
from slmcompile.state.reasons import Reason

_DEEPEST = 64
_MOST_VALUES = 150_000
_MOST_STAGES = 512
_LONGEST_SELECT = 8192
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")


@dataclass(frozen=True)
class Identity:
    """What a stage's result depended on when the plan was made."""

    schema: int
    kind: str
    epoch: int
    config: Mapping[str, Any]
    packages: Mapping[str, str]
    epochs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageEntry(Stage):
    """A stage and what would become of it, as written."""

    stage: str
    fingerprint: Sha256
    recorded: Annotated[Identity, Field(alias="identity")]
    action: Action
    reasons: tuple[Reason, ...]

    def planned(self) -> Stage:
        """The stage alone."""
        return Stage(**{known.name: getattr(self, known.name) for known in fields(Stage)})


@dataclass(frozen=True)
class PipelineEntry:
    """A pipeline, its stages by address."""

    name: Identifier
    sources: tuple[str, ...]
    runtime: Mapping[str, Any] | None
    stages: tuple[str, ...]


@dataclass(frozen=True)
class MadeFrom:
    """SHA-256 by path of what the plan was made from; None where no file was."""

    sources: Mapping[str, Sha256 | None]
    data: Mapping[str, Sha256]
    state: Mapping[str, Sha256 | None]


@dataclass(frozen=True)
class Document:
    """A whole plan file; what a later minor version adds to it is passed over."""

    recipe: Identifier
    overrides: tuple[str, ...]
    select: tuple[str, ...]
    effective: Mapping[str, Any]
    origins: Mapping[str, str]
    made_from: MadeFrom
    pipelines: tuple[PipelineEntry, ...]
    stages: Annotated[tuple[StageEntry, ...], Field(max_length=_MOST_STAGES)]
    members: Mapping[Identifier, Mapping[str, str]] = field(default_factory=dict)


_DOCUMENT = TypeAdapter(Document)


def read_document(data: bytes) -> Document:
    """The content of a plan file.

    Raises:
        ValueError: something is missing, of another type, or refers to what is not there.
    """
    document = _DOCUMENT.validate_json(data, strict=True)
    _check_references(document)
    return document


def check_size(content: Any) -> None:
    """Raises ValueError for what is too deep, or too much, to have been a recipe's plan."""
    if not is_bounded(content, _DEEPEST, _MOST_VALUES):
        raise ValueError("too deep or too much")


def _check_references(document: Document) -> None:
    """Raises ValueError where the parts of a plan do not fit each other."""
    entries, before = document.stages, set[str]()
    for entry in entries:
        behind = {*entry.input_stages.values(), *entry.after.values()} <= before
        known = entry.input_stages.keys() <= entry.inputs.keys() and entry.kind in KINDS
        read = document.made_from.data.keys() >= {*entry.files}
        named = _NAME.fullmatch(entry.name) and entry.stage == entry.address
        if not (behind and known and read and named) or entry.stage in before:
            raise ValueError(f"the stage {entry.stage} is none")
        before.add(entry.stage)
    listed = [
        (pipeline.name, address) for pipeline in document.pipelines for address in pipeline.stages
    ]
    if listed != [(entry.pipeline, entry.stage) for entry in entries]:
        raise ValueError("the pipelines hold other stages")
    names = [pipeline.name for pipeline in document.pipelines]
    if len({*names}) < len(names) or names[-1:] != [document.recipe]:
        raise ValueError("the last pipeline is not the recipe's")
    if any(not {*own.values()} <= before for own in document.members.values()):
        raise ValueError("an adapter has other stages")
    made_from = document.made_from
    paths = [*made_from.sources, *made_from.data, *made_from.state]
    for entry in entries:
        paths += [*entry.outs, *entry.files, *entry.inputs.values(), *entry.after]
    if any(leads_out(path) for path in paths):
        raise ValueError("a path leads out of the project")
    if sum(map(len, document.select)) > _LONGEST_SELECT:
        raise ValueError("a selection without end")
