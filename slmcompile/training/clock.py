"""Processor and wall time of a training run, those before a resumption included."""

from __future__ import annotations

import time


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._cpu = -time.process_time()
        self._wall = -time.perf_counter()

    def add(self, cpu: float, wall: float) -> None:
        """Seconds that were spent before this process."""
        self._cpu += cpu
        self._wall += wall

    def cpu(self) -> float:
        """Processor time, seconds."""
        return self._cpu + time.process_time()

    def wall(self) -> float:
        """Wall time, seconds."""
        return self._wall + time.perf_counter()
