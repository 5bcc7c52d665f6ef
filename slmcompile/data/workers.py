"""Work on blocks in as many processes as there are cores, with results in the order of the blocks.

Processes are forked, so that what they work with is there already and is shared; they end with the
process that has started them, whatever ends that. No result depends on how many there are.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from slmcompile.console.errors import MissingError
from slmcompile.machine.process import signal_on_parent_death

Given = TypeVar("Given")
Found = TypeVar("Found")

_AHEAD = 2
"""Blocks a process that may be waiting, or be done before their turn."""

_work: list[Callable[[Any], Any]] = []
"""Of a process that was started here, its work."""


def cores() -> int:
    """Cores that this process may use; one where processes cannot be forked safely."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def in_order(
    work: Callable[[Given], Found], blocks: Iterable[Given], processes: int
) -> Iterator[Found]:
    """``work`` of each block, in their order; with one process in this one.

    Args:
        work: a function of a block alone; what it is made of need not be picklable.
        blocks: what to work on; a few more than are worked on are taken at a time.
        processes: how many.

    Raises:
        MissingError: a process was ended, as where memory is short (exit 69).
    """
    if processes < 2:
        yield from map(work, blocks)
        return
    gc.collect()
    gc.freeze()  # or the collector of each process would copy all that they share
    with ProcessPoolExecutor(
        processes, get_context("fork"), initializer=_begin, initargs=(work, os.getpid())
    ) as pool:
        waiting: deque[Future[Found]] = deque()
        try:
            for block in blocks:
                waiting.append(pool.submit(_run, block))
                if len(waiting) >= _AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise MissingError(
                "a process of the data stage was ended, as the system does where memory is short",
                "free memory and run again",
            ) from error
        finally:
            for each in waiting:
                each.cancel()
            gc.unfreeze()


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    signal_on_parent_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that has started this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _work[:] = [work]


def _run(block: Any) -> Any:
    return _work[0](block)
