"""A tracker that cannot hurt the run: slow, broken or unreachable, it costs a warning line.

Calls go into a bounded queue; a daemon thread opens the real tracker and feeds it. So the training
loop never waits for a tracker, an exception never leaves the thread, and the end of the run waits
a bounded time. Values are cleaned of secrets before they enter the queue.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.redact import redact, secrets_of
from slmcompile.tracking.protocol import Tracker

QUEUE_LENGTH = 4096
FINISH_SECONDS = 10.0

_Call = Callable[[Tracker], None]


class GuardedTracker:
    """Runs another tracker in a daemon thread and swallows everything that goes wrong there.

    Args:
        opener: makes the real tracker; called in the thread, may block or raise.
        name: what the warning calls it.
        warn: gets at most one line during the run and one at its end.
        finish_seconds: the longest that ``finish`` waits for what is still queued.
    """

    def __init__(
        self,
        opener: Callable[[], Tracker],
        name: str,
        warn: Callable[[str], None],
        finish_seconds: float = FINISH_SECONDS,
    ) -> None:
        self._opener = opener
        self._name = name
        self._warn = warn
        self._finish_seconds = finish_seconds
        self._secrets = secrets_of(os.environ)
        self._calls: queue.Queue[_Call | None] = queue.Queue(QUEUE_LENGTH)
        self._warned = False
        self._broken = False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker.log``."""
        kept = dict(values)
        self._put(lambda tracker: tracker.log(step, kept))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See ``Tracker.table``."""
        kept = redact(list(rows), self._secrets)
        self._put(lambda tracker: tracker.table(name, list(columns), kept))

    def summary(self, values: Mapping[str, Any]) -> None:
        """See ``Tracker.summary``."""
        kept = redact(values, self._secrets)
        self._put(lambda tracker: tracker.summary(kept))

    def artifact(self, name: str, kind: str, manifest_path: Path) -> None:
        """See ``Tracker.artifact``."""
        self._put(lambda tracker: tracker.artifact(name, kind, manifest_path))

    def finish(self) -> None:
        """Waits until all is written, at most ``finish_seconds``."""
        deadline = time.monotonic() + self._finish_seconds
        with contextlib.suppress(queue.Full):
            self._calls.put(None, timeout=self._finish_seconds)
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        if self._thread.is_alive():
            self._say_once(f"is still busy after {self._finish_seconds:.0f} s and is left behind")

    def _put(self, call: _Call) -> None:
        if self._broken:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._say_once("does not keep up; some of its points are missing")

    def _work(self) -> None:
        try:
            tracker = self._opener()
            while (call := self._calls.get()) is not None:
                call(tracker)
            tracker.finish()
        except BaseException as error:  # noqa: BLE001 -- a tracker may even call sys.exit
            self._broken = True
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._say_once(f"failed and is off for this run: {redact(lines[0], self._secrets)}")
            self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()

    def _say_once(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"warning: {self._name} {what}; the run goes on")
