"""Hashes of files that are asked for again and again, read again only where they may differ.

A hash is remembered for a file's device, inode, size, modification and change time. Within the
tick of the clock in which a file was written it can change once more without any of these moving,
so a hash taken that early is not remembered at all. Links are not followed, and a FIFO or a device
is never read. Commands that only look keep those of large files for the next one
(``hashes_kept``), so that a plan over a folder of weights does not read them each time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slmcompile.files.hash_store import LARGE, HashStore
from slmcompile.files.safe_read import open_regular

_SETTLED_NS = 2_000_000_000  # coarser than the ticks of the file systems in use (FAT: 2 s)
_KEPT = 1 << 14
_known: OrderedDict[tuple[str, str], tuple[tuple[int, ...], str]] = OrderedDict()
_stores: list[HashStore] = []


@contextmanager
def hashes_kept(root: Path, folder: str = ".slmcompile") -> Iterator[None]:
    """Large files are hashed once until they change, in this block and in later ones.

    For commands that only look: a file of the same size whose times and inode somebody has set back
    would pass for the one that it was.

    Args:
        root: the project's folder.
        folder: where in it hashes are kept.
    """
    store = HashStore(root, folder)
    _stores.append(store)
    try:
        yield
    finally:
        _stores.remove(store)
        store.write()


def file_hash(path: Path, algorithm: str) -> str:
    """Hex digest of a file's bytes, by an algorithm of ``hashlib``.

    Raises:
        OSError: there is no regular file that can be read.
    """
    key = (algorithm, str(path))
    remembered = _known.get(key)
    if remembered is not None and remembered[0] == _signature(path.lstat()):
        return remembered[1]
    if _stores and (kept := _kept(key, path)) is not None:
        return kept
    began = time.time_ns()
    digest = hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
    with os.fdopen(open_regular(str(path)), "rb") as stream:
        before = _signature(os.fstat(stream.fileno()))
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        after = os.fstat(stream.fileno())
    settled = max(after.st_mtime_ns, after.st_ctime_ns) + _SETTLED_NS < began
    if settled and _signature(after) == before:
        _remember(key, before, digest.hexdigest())
        if _stores and after.st_size >= LARGE:
            _stores[-1].put(algorithm, path, before, digest.hexdigest())
    return digest.hexdigest()


def _kept(key: tuple[str, str], path: Path) -> str | None:
    """What a store keeps of a large file; None where it has to be read."""
    found = path.lstat()
    if found.st_size < LARGE or not stat.S_ISREG(found.st_mode):
        return None
    return _stores[-1].get(key[0], path, _signature(found))


def _remember(key: tuple[str, str], signature: tuple[int, ...], digest: str) -> None:
    _known[key] = (signature, digest)
    if len(_known) > _KEPT:
        _known.popitem(last=False)


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
