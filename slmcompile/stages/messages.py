"""What a stage's program in a container says to the stage outside of it: a line of JSON a message.

The one side writes, and the other believes nothing: code that nobody has read runs where it is
written. What is read has the types that it should have, is bounded and can be printed.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from slmcompile.console.errors import CorruptError, Exit, SlmcompileError
from slmcompile.console.printable import printable, shortened
from slmcompile.console.progress import Progress
from slmcompile.files.strict_json import decoder
from slmcompile.stages.context import Result

_MOST_BYTES = 64 << 20
"""Of one message: a curve with a million points is as large."""
_MOST_LINES, _LONGEST = 2_000, 500
_MOST_STEPS = 1 << 53
_MOST_FIELDS = 16
_MOST_ERRORS = 20
_STOPPED = frozenset({Exit.INTERRUPTED, Exit.TERMINATED})
_NO_ERRORS = frozenset({Exit.DONE, Exit.CHANGES})


class Sender:
    """The side in the container: progress, and how it ended.

    Args:
        descriptor: of the pipe to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """See ``Progress``."""
        self._send("say", line)

    def begin(self, what: str, total: int) -> None:
        """See ``Progress``."""
        self._send("begin", what, total)

    def step(self, done: int, **fields: float | str) -> None:
        """See ``Progress``."""
        self._send("step", done, fields)

    def end(self) -> None:
        """See ``Progress``."""
        self._send("end")

    def result(self, result: Result) -> None:
        """What the program gave."""
        told = {"info": result.info, "metrics": result.metrics, "plots": result.plots}
        self._send("result", told)

    def error(self, error: SlmcompileError) -> None:
        """What it failed with."""
        self._send("error", error.to_json())

    def _send(self, *message: Any) -> None:
        data = json.dumps(message).encode("ascii") + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class Receiver:
    """The side outside.

    Args:
        progress: where to say what is said.

    Attributes:
        result: what the program gave, once it has.
        error: what it failed with, once it has.
    """

    def __init__(self, progress: Progress) -> None:
        self.result: Result | None = None
        self.error: SlmcompileError | None = None
        self._progress = progress
        self._messages = _Lines(_MOST_BYTES)
        self._printed = _Lines(_MOST_BYTES)
        self._left = _MOST_LINES

    def feed(self, data: bytes) -> None:
        """Reads on in the messages.

        Raises:
            CorruptError: it is none of them (exit 74).
        """
        for line in self._messages.of(data):
            match _read(line):
                case ["say", str(text)]:
                    self._say(text)
                case ["begin", str(what), int(total)] if 0 <= total < _MOST_STEPS:
                    self._progress.begin(_shown(what, 80), total)
                case ["step", int(done), dict(fields)] if 0 <= done < _MOST_STEPS:
                    self._progress.step(done, **_fields(fields))
                case ["end"]:
                    self._progress.end()
                case ["result", dict(told)] if self._runs():
                    self.result = _result(told)
                case ["error", dict(told)] if self._runs():
                    self.error = _error(told)
                case _:
                    raise _no_message()

    def printed(self, data: bytes) -> None:
        """Says what the code, or a library, has written to standard output or error."""
        for line in self._printed.of(data):
            if text := line.decode("utf-8", "replace").strip():
                self._say(f"| {text}")

    def _say(self, text: str) -> None:
        self._left -= 1
        if self._left > 0:
            self._progress.say(_shown(text, _LONGEST))
        elif self._left == 0:
            self._progress.say("says more than is shown")

    def _runs(self) -> bool:
        return self.result is None and self.error is None


class _Lines:
    """Lines of what comes in pieces.

    Args:
        most: bytes that one may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0

    def of(self, data: bytes) -> Iterator[bytes]:
        """Those that end with this piece.

        Raises:
            CorruptError: one is longer.
        """
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield b"".join((*self._pieces, line))
            self._pieces, self._size = [], 0
        self._pieces.append(rest)
        self._size += len(rest)
        if self._size > self._most:
            raise _no_message()


def _read(line: bytes) -> Any:
    try:
        found = decoder(_no_name_twice).decode(line.decode("utf-8"))
        # Lone surrogates and numbers without end, which JSON can name, are in no file of ours.
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _no_message() from error
    return found


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _result(told: Mapping[str, Any]) -> Result:
    info, metrics, plots = (told.get(name) for name in ("info", "metrics", "plots"))
    if len(told) != 3 or not isinstance(info, dict):
        raise _no_message()
    if not isinstance(metrics, dict | None) or not isinstance(plots, dict | None):
        raise _no_message()
    return Result(info=info, metrics=metrics, plots=plots)


def _error(told: Mapping[str, Any], *, alone: bool = False) -> SlmcompileError:
    match told:
        case {"what": str(what), "hint": str(mend), "code": int(number), **more}:
            code = Exit(number) if number in {*Exit} - _NO_ERRORS else Exit.STAGE_FAILED
            also = more.get("also", [])
            if not isinstance(also, list) or len(also) > _MOST_ERRORS or (also and alone):
                raise _no_message()
            beside = [_error(each if isinstance(each, dict) else {}, alone=True) for each in also]
            return SlmcompileError(what, mend, code=code, also=beside)
        case _:
            raise _no_message()


def as_failed(error: SlmcompileError) -> SlmcompileError:
    """An error that says that somebody stopped it, where nobody did."""
    if error.code in _STOPPED:
        return SlmcompileError(error.what, error.mend, code=Exit.STAGE_FAILED, also=error.also)
    return error


def _fields(fields: Mapping[str, Any]) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, value in list(fields.items())[:_MOST_FIELDS]:
        if isinstance(value, str):
            found[_shown(name, 40)] = _shown(value, 40)
        elif isinstance(value, int | float) and abs(value) < 1e300:
            found[_shown(name, 40)] = float(value)
    return found


def _shown(text: str, limit: int) -> str:
    return shortened(printable(text[: 10 * limit]), limit)


def _no_message() -> CorruptError:
    return CorruptError(
        "what came out of the container is not what a stage says",
        "read the code that this stage executes: it writes where only the stage does",
    )
