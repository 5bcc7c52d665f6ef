"""How much a chat template may use: shared by the process that renders and the one that waits."""

from __future__ import annotations

MEMORY_BYTES = 4 << 30
"""Address space, of which the imports take about one half GB."""

MAX_CHARACTERS = 256 << 20
"""Text that one process may write."""

ASKED_CHARACTERS = 32 << 20
"""Text that one process is asked to render, but for one conversation that is longer alone."""

ASKED_REQUESTS = 20_000
"""Renderings that one process is asked for: what a template adds to each counts as written too."""

_BASE_SECONDS = 10
_ROWS_A_SECOND = 200


def cpu_seconds(rows: int) -> int:
    """CPU seconds for a number of renderings; a usual template needs a twentieth of it."""
    return _BASE_SECONDS + rows // _ROWS_A_SECOND
