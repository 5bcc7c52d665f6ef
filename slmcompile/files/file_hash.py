"""Hashes of files that are asked for again and again, read again only where they may differ.

A hash is remembered for a file's device, inode, size, modification and change time. Within the
tick of the clock in which a file was written it can change once more without any of these moving,
so a hash taken that early is not remembered at all. Links are not followed, and a FIFO or a device
is never read.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from pathlib import Path

from slmcompile.files.safe_read import open_regular

_SETTLED_NS = 2_000_000_000  # coarser than the ticks of the file systems in use (FAT: 2 s)
_KEPT = 4096
_known: OrderedDict[tuple[str, str], tuple[tuple[int, ...], str]] = OrderedDict()


def file_hash(path: Path, algorithm: str) -> str:
    """Hex digest of a file's bytes, by an algorithm of ``hashlib``.

    Raises:
        OSError: there is no regular file that can be read.
    """
    key = (algorithm, str(path))
    remembered = _known.get(key)
    if remembered is not None and remembered[0] == _signature(path.lstat()):
        return remembered[1]
    began = time.time_ns()
    digest = hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
    with os.fdopen(open_regular(str(path)), "rb") as stream:
        before = _signature(os.fstat(stream.fileno()))
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        after = os.fstat(stream.fileno())
    settled = max(after.st_mtime_ns, after.st_ctime_ns) + _SETTLED_NS < began
    if settled and _signature(after) == before:
        _known[key] = (before, digest.hexdigest())
        if len(_known) > _KEPT:
            _known.popitem(last=False)
    return digest.hexdigest()


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
