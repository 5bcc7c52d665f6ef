"""The tracker for recipes that track nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class NoTracker:
    """Accepts everything and keeps nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps nothing."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keeps nothing."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Keeps nothing."""

    def artifact(self, name: str, kind: str, manifest_path: Path) -> None:
        """Keeps nothing."""

    def finish(self) -> None:
        """Has nothing to end."""
