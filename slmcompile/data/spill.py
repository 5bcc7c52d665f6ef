"""Rows in blocks on a file without a name, so that a million of them take no memory.

The file lies where the stage writes and has no name there: whatever ends the process leaves nothing
of it. A block is one pickle, packed by Zstandard. Knows nothing of what rows are.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

BLOCK = 2048
"""Rows that are read, rendered, encoded and stored together."""

_folder: ContextVar[Path | None] = ContextVar("spilled_into", default=None)
_SIZE = 8


@contextmanager
def spilled_into(folder: Path) -> Iterator[None]:
    """Within it rows are spilled into a folder; else to where the system has such files."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def packed(value: Any) -> bytes:
    """A value as bytes, for this process and those that it has started."""
    import pyarrow as pa

    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    found: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return len(data).to_bytes(_SIZE, "little") + found


def unpacked(data: bytes) -> Any:
    """What ``packed`` was given."""
    import pyarrow as pa

    size = int.from_bytes(data[:_SIZE], "little")
    whole = pa.decompress(memoryview(data)[_SIZE:], decompressed_size=size, codec="zstd")
    return pickle.loads(whole)  # noqa: S301 (of this run)


class Blocks:
    """Values that each stand for some rows; the last one that was asked for is in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(dir=_folder.get())  # noqa: SIM115 (lives as long)
        self._places: list[tuple[int, int]] = []
        self._starts = [0]
        self._end = 0
        self._held: dict[int, Any] = {}
        self._last: tuple[int, Any] = (-1, None)

    def add(self, value: Any, rows: int) -> None:
        """Adds a value; what cannot be pickled stays in memory."""
        try:
            data = packed(value)
        except (pickle.PicklingError, TypeError, AttributeError):
            self._held[len(self)] = value
            data = b""
        self.add_packed(data, rows)

    def add_packed(self, data: bytes, rows: int) -> None:
        """Adds a value that is packed already."""
        self._file.seek(self._end)
        self._file.write(data)
        self._file.flush()
        self._places.append((self._end, len(data)))
        self._starts.append(self._starts[-1] + rows)
        self._end += len(data)

    def cut(self, values: int) -> None:
        """Forgets all values behind the first so many."""
        del self._places[values:], self._starts[values + 1 :]
        self._held = {number: value for number, value in self._held.items() if number < values}
        self._last = (-1, None)
        self._end = sum(self._places[-1]) if self._places else 0

    def __len__(self) -> int:
        """Number of values."""
        return len(self._places)

    def __getitem__(self, number: int) -> Any:
        """A value."""
        if number in self._held:
            return self._held[number]
        if number != self._last[0]:
            self._last = number, unpacked(self.packed(number))
        return self._last[1]

    def packed(self, number: int) -> bytes:
        """A value as it is stored; empty where it stays in memory."""
        place, size = self._places[number]
        return os.pread(self._file.fileno(), size, place)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    def start(self, number: int) -> int:
        """Which row the first of a value is; that behind the last for the number of values."""
        return self._starts[number]

    def find(self, row: int) -> tuple[int, int]:
        """The value that a row is in, and its place there."""
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]


class Spill(Sequence[T], Generic[T]):
    """A sequence that is built block by block, of which one block is in memory."""

    def __init__(self) -> None:
        self.blocks = Blocks()

    @classmethod
    def of(cls, values: Iterable[T]) -> Spill[T]:
        """All values, in blocks of ``BLOCK``."""
        found = cls()
        rest = iter(values)
        while block := tuple(islice(rest, BLOCK)):
            found.blocks.add(block, len(block))
        return found

    def __len__(self) -> int:
        return self.blocks.rows

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self.blocks)):
            yield from self.blocks[number]

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        row = place + len(self) if place < 0 else place
        if not 0 <= row < len(self):
            raise IndexError(place)
        number, at = self.blocks.find(row)
        found: T = self.blocks[number][at]
        return found
