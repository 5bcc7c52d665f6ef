"""Results kept for the life of a process: packed, so that thousands take a few megabytes.

For pure functions alone: a key must say all that the result depends on, bytes and not times.
"""

from __future__ import annotations

import pickle
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Remembered(Generic[Result]):
    """The results used last, as many as fit; what comes out is a copy.

    Who goes through more than fit, again and again in the same order, meets none: there should be
    room for a large project.

    Args:
        most_bytes: of all of them together, packed.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._packed: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> Result | None:
        """A copy of the result for a key; None if there is none."""
        packed = self._packed.get(key)
        if packed is None:
            return None
        self._packed.move_to_end(key)
        found: Result = pickle.loads(zlib.decompress(packed))  # noqa: S301 (from this process)
        return found

    def put(self, key: Hashable, result: Result) -> None:
        """Keeps a result."""
        packed = zlib.compress(pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL), 1)
        self._bytes += len(packed) - len(self._packed.pop(key, b""))
        self._packed[key] = packed
        while self._bytes > self._most:
            _, dropped = self._packed.popitem(last=False)
            self._bytes -= len(dropped)

    def clear(self) -> None:
        """Forgets everything."""
        self._packed.clear()
        self._bytes = 0
