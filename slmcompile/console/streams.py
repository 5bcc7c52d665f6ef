r"""Standard input, output and error as a shell may hand them over, made safe to use.

- A character that a stream's encoding lacks is written as ASCII, ``→`` as ``->``, any other as
  ``\uXXXX``; JSON stays JSON. Bytes on standard input that its encoding lacks are bad data.
- A reader that goes away (``slmcompile run R | head -1``) ends the printing and not the work: what
  is left goes nowhere, also what the processes that we started print, and the exit code is as
  without the pipe. Only what does nothing but talk ends there.
- A stream that cannot take it all, ``> /dev/full``, is exit 69.
- A stream that is closed reads and writes nothing. The next file that is opened does not become it.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any, TextIO

from slmcompile.console.errors import BadDataError, MissingError
from slmcompile.console.printable import escaped_character

_ASCII = {
    "→": "->", "↺": "<", "≈": "~", "…": "...", "–": "-", "—": "-", "−": "-", "─": "-", "×": "x",
    "±": "+-", "✗": "x", "✓": "ok", "√": "sqrt ", "≤": "<=", "≥": ">=", "·": "-",
    "“": '"', "”": '"',
}  # fmt: skip
"""What we print beyond ASCII, and what stands for it."""

_TEXT, _BYTES = "slmcompile-text", "slmcompile-bytes"


def prepare(*, lasting: bool = True) -> None:
    """Replaces the standard streams of this process; unless ``lasting``, it ends with its reader.

    Raises:
        BrokenPipeError: later, by a write of what is not lasting.
    """
    for number in range(3):
        _open_where_closed(number)
    codecs.register_error(_TEXT, _shown)
    codecs.register_error(_BYTES, _refused)
    sys.stdin = _reading(sys.stdin)
    sys.stdout = _writing(sys.stdout, 1, lasting=lasting)
    sys.stderr = _writing(sys.stderr, 2, lasting=True)


def carries(text: str, stream: TextIO) -> bool:
    """Whether a stream's encoding has every character of ``text``."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _open_where_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        # The lowest number that is free, which is this one as those below it are taken.
        os.open(os.devnull, os.O_RDWR)


class _Descriptor(io.FileIO):
    """A descriptor to write to, which becomes /dev/null when it fails."""

    def __init__(self, number: int, *, lasting: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._lasting = lasting

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._silence()
            if isinstance(error, BrokenPipeError) and not self._lasting:
                raise
            # Of standard error's own end there is nowhere to tell.
            if not isinstance(error, BrokenPipeError) and self.fileno() != 2:
                raise MissingError(
                    f"standard output: cannot be written ({error.strerror})",
                    "send it where there is room",
                ) from error
            return len(memoryview(data).cast("B"))

    def _silence(self) -> None:
        """Nothing that is still to come meets the error again, in children neither."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _writing(stream: TextIO | None, number: int, *, lasting: bool) -> io.TextIOWrapper:
    descriptor = _Descriptor(number, lasting=lasting)
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors=_TEXT,
        line_buffering=number == 2 or descriptor.isatty(),
        write_through=getattr(stream, "write_through", False),
    )


def _reading(stream: Any) -> Any:
    if not isinstance(stream, io.TextIOWrapper):
        return open(0, encoding="utf-8", closefd=False)
    stream.reconfigure(errors=_BYTES)
    return stream


def _shown(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(each) or escaped_character(each) for each in lacking), error.end


def _refused(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    raise BadDataError(
        f"standard input: the byte 0x{error.object[error.start]:02x} is no {error.encoding}",
        "write it in that encoding, or name its own: PYTHONIOENCODING=latin-1",
    ) from error
