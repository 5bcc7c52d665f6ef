"""How a stage tells a person where it is: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from slmcompile.console.printable import printable


class Progress(Protocol):
    """What a stage may say while it works. Never influences a result."""

    def say(self, line: str) -> None:
        """One line that stays."""

    def begin(self, what: str, total: int) -> None:
        """Starts a counted piece of work of ``total`` steps."""

    def step(self, done: int, **fields: float | str) -> None:
        """``done`` of ``total`` are done; ``fields`` are shown beside it (loss=…, tokens/s=…)."""

    def end(self) -> None:
        """The counted piece of work is done."""


class Silent:
    """Says nothing; for tests and for calls from Python."""

    def say(self, line: str) -> None:
        """Nothing."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def step(self, done: int, **fields: float | str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Prefixed:
    """Says whose it is before every line that stays.

    Args:
        progress: where it is said.
        whose: begins each line.
    """

    def __init__(self, progress: Progress, whose: str) -> None:
        self._progress = progress
        self._whose = whose

    def say(self, line: str) -> None:
        """The line behind whose it is."""
        self._progress.say(f"{self._whose}: {line}")

    def begin(self, what: str, total: int) -> None:
        """As it is."""
        self._progress.begin(what, total)

    def step(self, done: int, **fields: float | str) -> None:
        """As it is."""
        self._progress.step(done, **fields)

    def end(self) -> None:
        """As it is."""
        self._progress.end()


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


class Console:
    """Progress on a stream: rewrites one line on a terminal, else a line every few seconds."""

    def __init__(self, stage: str, interval: float = 10.0) -> None:
        self._stage = stage
        self._live = sys.stdout.isatty()
        self._interval = 0.1 if self._live else interval
        self._what = ""
        self._total = 0
        self._started = 0.0
        self._shown = 0.0
        self._open = False

    def say(self, line: str) -> None:
        """Prints a line."""
        self._clear()
        print(f"  {self._stage}: {printable(line)}", flush=True)

    def begin(self, what: str, total: int) -> None:
        """Starts counting and timing."""
        self._what, self._total = what, total
        self._started = self._shown = time.monotonic()

    def step(self, done: int, **fields: float | str) -> None:
        """Shows the step if enough time has passed since the last one shown."""
        now = time.monotonic()
        if now - self._shown < self._interval and done < self._total:
            return
        self._shown = now
        elapsed = now - self._started
        left = elapsed / done * (self._total - done) if done else 0.0
        shown = " ".join(f"{name} {_number(value)}" for name, value in fields.items())
        line = f"{self._what} {done}/{self._total} {shown} {_duration(left)} left"
        if self._live:
            print(f"\r\033[K  {self._stage}: {line}", end="", flush=True)
            self._open = True
        else:
            print(f"  {self._stage}: {line}", flush=True)

    def end(self) -> None:
        """Takes the live line away."""
        self._clear()

    def _clear(self) -> None:
        if self._open:
            print("\r\033[K", end="", flush=True)
            self._open = False
