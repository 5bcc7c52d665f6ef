"""A process in a container: what it says as it comes, and an end of all that it has started."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from slmcompile.machine.container import Container
from slmcompile.machine.system_calls import filtered

_OFTEN = 0.25
_LONGEST_END = 10.0


class TooLongError(Exception):
    """It was to have ended by now."""


class Contained:
    """A process that runs; ``started`` makes one.

    Args:
        process: bubblewrap, which ends when all in the container has ended.
        messages: what the program writes to the descriptor that it is told.
    """

    def __init__(self, process: subprocess.Popen[bytes], messages: IO[bytes]) -> None:
        self._process = process
        self._messages = messages

    def write(self, line: bytes) -> None:
        """A line for its standard input; a process that is gone is known by how it ended."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line + b"\n")
                self._process.stdin.flush()

    def follow(
        self,
        messages: Callable[[bytes], None],
        printed: Callable[[bytes], None],
        often: Callable[[], None],
        seconds: float,
    ) -> int:
        """Waits for its end, and returns its exit code: 128 and more by a signal.

        Args:
            messages: given what it writes as messages, in pieces.
            printed: given what it writes to standard output and error, in pieces.
            often: called a few times a second.
            seconds: after which it has to have ended.

        Raises:
            TooLongError: it has not.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._messages, selectors.EVENT_READ, messages)
            if self._process.stdout is not None:
                waiting.register(self._process.stdout, selectors.EVENT_READ, printed)
            # Both have an end when nobody is left who could write, or everybody has closed them.
            while waiting.get_map() or self._process.poll() is None:
                for key, _ in waiting.select(_OFTEN):
                    if data := os.read(key.fd, 1 << 16):
                        key.data(data)
                    else:
                        waiting.unregister(key.fileobj)
                often()
                if time.monotonic() > deadline:
                    raise TooLongError
        return self._process.wait()


@contextmanager
def started(container: Container, program: Callable[[int], Sequence[str]]) -> Iterator[Contained]:
    """A program in a container, which holds nothing but the program's pipes of this process.

    When the block ends, however it does, all that has run in it has ended.

    Args:
        container: where it runs.
        program: the command, by the descriptor that it is to write its messages to.
    """
    messages, messages_in = os.pipe()
    info, info_in = os.pipe()
    with os.fdopen(messages, "rb", buffering=0) as said, os.fdopen(info, "rb") as about:
        try:
            with filtered() as calls:
                process = subprocess.Popen(
                    container.command(program(messages_in), calls, info_in),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(messages_in, info_in, calls),
                    env={},
                    cwd="/",
                )
        finally:
            os.close(messages_in)
            os.close(info_in)
        try:
            yield Contained(process, said)
        finally:
            _end(process, about)
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    if stream is not None:
                        stream.close()


def _end(process: subprocess.Popen[bytes], about: IO[bytes]) -> None:
    """Ends what is still in the container: its process 1, and with it the kernel ends all others.

    Bubblewrap waits for that and is waited for; ended itself, it would wait for nobody.
    """
    if process.poll() is None:
        with suppress(ValueError, KeyError, TypeError, ProcessLookupError):
            os.kill(int(json.loads(about.read(4096))["child-pid"]), signal.SIGKILL)
    try:
        process.wait(_LONGEST_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
