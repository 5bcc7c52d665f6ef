"""How much memory each phase of a run takes: the largest resident size between two moments.

The kernel keeps the largest resident size of a process (``VmHWM``) and lets a process set its own
back (``/proc/self/clear_refs``, Linux ≥ 4.0, proc(5)); both cost microseconds. Where that does not
exist there is the one figure for the whole process and no phases.

Knows nothing of torch or of what the phases are.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class PhaseMemory:
    """Largest resident size by phase, in bytes; phases do not nest."""

    def __init__(self) -> None:
        self._peaks: dict[str, int] = {}
        self._whole = 0
        self._can_reset = _reset()

    def note(self, name: str) -> None:
        """Records the resident size as it is now."""
        if self._can_reset:
            self._peaks[name] = _status("VmRSS")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the block; a phase that is entered again keeps its largest figure."""
        self._whole = max(self._whole, _peak())
        self._can_reset = self._can_reset and _reset()
        try:
            yield
        finally:
            reached = _peak()
            self._whole = max(self._whole, reached)
            if self._can_reset:
                self._peaks[name] = max(self._peaks.get(name, 0), reached)

    def peaks(self) -> dict[str, int]:
        """Bytes by phase; empty where the system cannot tell phases apart."""
        return dict(self._peaks)

    def whole(self) -> int:
        """Largest resident size since this object was made, bytes."""
        return max(self._whole, _peak())


def _reset() -> bool:
    """Sets the kernel's figure back to the present size; False where it cannot be."""
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
        return _status("VmHWM") > 0
    except (OSError, ValueError):
        return False


def _peak() -> int:
    try:
        return _status("VmHWM")
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{_STATUS} has no {name}")
    return int(found.group(1)) * 1024
