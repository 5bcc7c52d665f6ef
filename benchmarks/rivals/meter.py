"""Clocks and counts at the end of every optimizer step, in whatever process trains.

CPU-seconds are the process's own, all threads, user and system; what is done ``apart`` (writing an
adapter so that it can be judged) is in no figure. Standard library only.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mark:
    """Where a training stood after an optimizer step, all counted from its start.

    Attributes:
        cpu: seconds, start-up (imports, loading, preparing rows) included.
        wall: seconds, likewise.
        tokens: real ones; padding is none.
        places: tokens and padding.
        trained: tokens whose prediction was trained.
        rows: examples.
    """

    cpu: float
    wall: float
    tokens: int = 0
    places: int = 0
    trained: int = 0
    rows: int = 0


class Meter:
    """Marks of one training.

    Args:
        save_at: counts of rows from which an adapter is due.
        out: folder that adapters are written into.
    """

    def __init__(self, save_at: list[int], out: Path) -> None:
        self.marks: list[Mark] = []
        self.saved: list[tuple[int, str]] = []
        self._due = sorted(save_at)
        self._out = out
        self._counts = [0, 0, 0, 0]
        self._apart = [0.0, 0.0]
        self._born = time.perf_counter()

    def begin(self) -> None:
        """The first step begins; what was before is start-up."""
        if not self.marks:
            self._mark()

    def count(self, tokens: int, places: int, trained: int, rows: int) -> None:
        """A batch is about to be trained."""
        for number, more in enumerate((tokens, places, trained, rows)):
            self._counts[number] += more

    def step(self) -> Path | None:
        """An optimizer step has ended; returns where to write the adapter, if it is due."""
        self._mark()
        rows, due = self.marks[-1].rows, False
        while self._due and self._due[0] <= rows:
            due = bool(self._due.pop(0))
        if not due:
            return None
        folder = self._out / f"after-{rows}"
        self.saved.append((len(self.marks) - 1, str(folder)))
        return folder

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is done in it is not training."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self._apart[0] += time.process_time() - cpu
            self._apart[1] += time.perf_counter() - wall

    def write(self, path: Path) -> None:
        """The marks (the first is the start-up's), adapters and the peak of memory, as JSON."""
        found: dict[str, Any] = {
            "marks": [vars(mark) for mark in self.marks],
            "saved": self.saved,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        path.write_text(json.dumps(found), encoding="utf-8")

    def _mark(self) -> None:
        self.marks.append(
            Mark(
                time.process_time() - self._apart[0],
                time.perf_counter() - self._born - self._apart[1],
                *self._counts,
            )
        )
