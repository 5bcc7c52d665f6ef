"""SIGINT and SIGTERM as a request that the training loop polls.

The first signal is a request: finish the step, write a checkpoint, leave. It also puts the
system's default handler back, so a second one ends the process at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slmcompile.console.errors import Exit, SlmcompileError

_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class StopRequest:
    """Whether somebody asked the run to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def error(self, step: int) -> SlmcompileError:
        """What the run ends with (exit 130 or 143)."""
        code = _EXITS[self.signal or signal.SIGINT]
        return SlmcompileError(
            f"{code.name.lower()} at step {step}, checkpoint written",
            "run the same command again to go on from there",
            code=code,
        )


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Installs the handlers and puts the earlier ones back.

    Python allows handlers in the main thread only; elsewhere the request simply never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        for each in _EXITS:
            signal.signal(each, signal.SIG_DFL)

    earlier = {each: signal.signal(each, ask) for each in _EXITS}
    try:
        yield request
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)
