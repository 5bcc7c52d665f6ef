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
    """The results used last, ``kept`` of them; what comes out is a copy."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
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
        data = pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)
        self._packed[key] = zlib.compress(data, 1)
        if len(self._packed) > self._kept:
            self._packed.popitem(last=False)

    def clear(self) -> None:
        """Forgets everything."""
        self._packed.clear()
