"""What a stage may tell an experiment tracker. Knows no tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker writes once, at the start.

    Attributes:
        name: the run's name, ``<recipe>/<stage>``.
        group: the plan's id; the runs of one plan stand together.
        job_type: the stage's kind.
        config: the effective configuration, free of secrets.
        folder: an ignored scratch folder that gets the tracker's files.
    """

    name: str
    group: str
    job_type: str
    config: Mapping[str, Any]
    folder: Path


class Tracker(Protocol):
    """One tracked run of one stage. No call returns anything, so none can change a result."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One point of the curves: ``values`` at optimizer step ``step``."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A whole table under ``name``: every row has one value a column."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final figures of the run; a later value of the same name replaces an earlier one."""

    def artifact(self, name: str, kind: str, manifest_path: Path) -> None:
        """Records which bytes the run made, by the hash of their manifest; uploads no weights."""

    def finish(self) -> None:
        """Ends the run; nothing may be called after it."""
