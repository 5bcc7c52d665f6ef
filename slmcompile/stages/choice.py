"""Reads what a ``choose`` stage wrote: the choice, and the frontier that it was made on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FRONTIER = "frontier.json"


def read_frontier(folder: Path) -> dict[str, Any]:
    """Budget, torch's figures, the candidates' and which of them was chosen, and why."""
    found: dict[str, Any] = json.loads((folder / FRONTIER).read_text(encoding="utf-8"))
    return found


def read_choice(folder: Path) -> str:
    """Name of the candidate that was chosen."""
    return str(read_frontier(folder)["chosen"])
