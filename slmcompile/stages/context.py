"""What a stage program is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmcompile.console.progress import Progress


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
