"""What a stage program is given and what it gives back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slmcompile.console.progress import Prefixed, Progress
from slmcompile.plans.definition import OF_MEMBER
from slmcompile.plans.kinds import KINDS


@dataclass(frozen=True)
class Context:
    """Everything a stage may use.

    Attributes:
        project: root of the project.
        stage: ``pipeline/name``.
        config: its part of the recipe.
        inputs: verified input folders by role.
        manifests: their manifests by role.
        out: empty folder to fill.
        scratch: folder that survives kills, its own by fingerprint.
        fingerprint: SHA-256 of spec and input bytes.
        runtime: settings that cannot change a result.
        progress: where to say how far it is.
        member: which adapter of a group, of a stage that does something for each.
        spec: the whole spec file.
    """

    project: Path
    stage: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Path]
    manifests: Mapping[str, Mapping[str, Any]]
    out: Path
    scratch: Path
    fingerprint: str
    runtime: Mapping[str, Any]
    progress: Progress
    member: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)

    def empty_scratch(self) -> Path:
        """Its scratch folder without what a run that was killed has left in it."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        return self.scratch

    def of_member(self, member: str) -> Context:
        """What the same stage of a plain recipe would be given, for one adapter of this."""
        ending = f"{OF_MEMBER}{member}"
        roles = {role: role.removesuffix(ending) for role in self.inputs if role.endswith(ending)}
        out = self.out / member
        out.mkdir(parents=True, exist_ok=True)
        inputs = {plain: self.inputs[role] for role, plain in roles.items()}
        return replace(
            self,
            config=self.config["members"][member],
            # What did something for each has each one's below its name.
            inputs={
                role: path / member if role in KINDS and KINDS[role].joins is not None else path
                for role, path in inputs.items()
            },
            manifests={
                plain: self.manifests[role]
                for role, plain in roles.items()
                if role in self.manifests
            },
            out=out,
            progress=Prefixed(self.progress, member),
            member=member,
        )


@dataclass(frozen=True)
class Result:
    """What a stage has to say beside its folder.

    Attributes:
        info: facts for the folder's manifest; the same in every equal run.
        metrics: for the stage's DVC metrics file: what compares between revisions.
        plots: for the stage's DVC plots file: whatever else it has to say, times too.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] | None = None
    plots: Mapping[str, Any] | None = None
