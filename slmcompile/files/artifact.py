"""Folders that appear whole or not at all, and the manifest that says what is in them.

An artifact is a folder with a ``manifest.json`` that holds the size and SHA-256 of every other
file. The manifest is written last and the folder is renamed into place, so a folder with a valid
manifest is complete. Manifests hold nothing that differs between two equal runs (no time, no
host), so equal artifacts are equal to the byte.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from slmcompile.console.errors import CorruptError, MissingError, SlmcompileError
from slmcompile.files.safe_read import read_output_json

FORMAT_VERSION = "1.0"
MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_OF_RUST = re.compile(r"\(os error (\d+)\)")
_OF_NUMPY = re.compile(r"\d+ requested and \d+ written")
MAX_MANIFEST = 8 << 20
_MADE_AGAIN = "remove the folder and run the recipe again"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as readable JSON (sorted keys, one newline at the end), atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """``value`` as readable JSON: sorted keys, one newline at the end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """As ``write_bytes``, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file through a sibling, fsync and rename, so that readers see all of it or none."""
    with whole_file(path) as stream:
        stream.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a stream whose bytes replace the file when the block ends, unless it raises."""
    with saying_what_is_missing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.unlink(missing_ok=True)
            # Never through a link that a stranger has put there.
            with part.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _remove_left(path)


def _remove_left(path: Path) -> None:
    """Removes siblings that killed processes have left of writing this file, where it may."""
    before, after = f".{path.name}.", ".part"
    with suppress(OSError):  # a folder that can be written and not listed
        for entry in path.parent.iterdir():
            pid = entry.name[len(before) : -len(after)]
            left = entry.name == f"{before}{pid}{after}" and pid.isdecimal()
            if left and not _lives(int(pid)):
                entry.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    """Whether a process has this number, or nobody can tell."""
    if os.name != "posix":  # elsewhere the same call ends it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def saying_what_is_missing(path: Path) -> Iterator[None]:
    """Turns a full disk, a read-only folder or a missing right into exit 69."""
    try:
        yield
    except SlmcompileError:
        raise
    except Exception as error:
        missing = as_missing(error, path)
        if missing is None:
            raise
        raise missing from error


def as_missing(error: Exception, path: Path) -> MissingError | None:
    """What a full disk, a read-only folder or a missing right is to a person; None for others."""
    told = error.errno if isinstance(error, OSError) else None
    number = told or _told_by_native_code(error)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return MissingError(
            f"{path}: no space left on the device", "free some disk space and run again"
        )
    if number == errno.EFBIG:
        return MissingError(
            f"{path}: a file would be larger than may be written here",
            "raise the limit (`ulimit -f`), or put the project onto another file system",
        )
    if number in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return MissingError(
            f"{path}: cannot be written ({os.strerror(number)})", "make the folder writable"
        )
    return None


def _told_by_native_code(error: Exception) -> int | None:
    """The system's number in an error of safetensors, Arrow, ONNX or numpy, who hide it."""
    if isinstance(error, OSError) and _OF_NUMPY.fullmatch(str(error)):
        return errno.ENOSPC  # or whatever else has stopped it halfway: it does not say
    if type(error).__name__ == "SafetensorError" and (found := _OF_RUST.search(str(error))):
        return int(found[1])
    return errno.ENOSPC if "no space left on device" in str(error).lower() else None


@contextmanager
def replacing(
    folder: Path,
    kind: str,
    info: dict[str, Any] | None = None,
    fingerprint: str | None = None,
    whole: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Yields an empty scratch folder; on success it gets a manifest and replaces ``folder``.

    On any exception the scratch folder is removed and ``folder`` is as it was. ``info`` may be
    filled by the caller until the block ends; it becomes ``manifest["info"]``. ``whole`` is called
    with the scratch folder when nothing is missing in it, before it replaces ``folder``.
    """
    with appearing(folder) as scratch:
        yield scratch
        write_manifest(scratch, kind, info or {}, fingerprint)
        if whole is not None:
            whole(scratch)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yields an empty scratch folder that replaces ``folder``, unless the block raises."""
    scratch = folder.with_name(f".{folder.name}.part")
    with saying_what_is_missing(folder):
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        try:
            yield scratch
            if folder.exists():
                shutil.rmtree(folder)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _files(folder: Path) -> dict[str, Path]:
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    found.pop(MANIFEST, None)
    return found


def write_manifest(
    folder: Path, kind: str, info: dict[str, Any], fingerprint: str | None = None
) -> None:
    """Hashes every file of ``folder`` and writes ``manifest.json`` last.

    ``fingerprint`` names the work that made it, so that it is taken for no other's.
    """
    files = {
        name: {"sha256": sha256_file(path), "size": path.stat().st_size}
        for name, path in _files(folder).items()
    }
    made_by = {} if fingerprint is None else {"fingerprint": fingerprint}
    write_json(
        folder / MANIFEST,
        {"format_version": FORMAT_VERSION, "kind": kind, "files": files, "info": info, **made_by},
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, unverified; what it holds has the types that it should have.

    Raises:
        CorruptError: there is none that can be used (exit 74).
    """
    path = folder / MANIFEST
    mend = "run the recipe again; the stage will be rebuilt"
    manifest = read_output_json(folder, MANIFEST, MAX_MANIFEST)
    if manifest is None:
        raise CorruptError(f"{path}: missing or unreadable", mend)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if not isinstance(version, str):
        raise CorruptError(f"{path}: not a manifest", mend)
    if version.split(".")[0] != FORMAT_VERSION.split(".", maxsplit=1)[0]:
        raise CorruptError(
            f"{path}: format_version {version!r} is not {FORMAT_VERSION}",
            "use the slmcompile version that wrote it, or run the recipe again",
        )
    if not lists_files(manifest.get("files")) or not isinstance(manifest.get("info"), dict):
        raise CorruptError(f"{path}: not a manifest", mend)
    found: dict[str, Any] = manifest
    return found


def lists_files(files: Any) -> bool:
    """Whether a manifest's ``files`` have the form that they should have."""
    return isinstance(files, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("size"), int)
        and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def verify(folder: Path, *, read: bool = True) -> dict[str, Any]:
    """Checks every file of an artifact against its manifest and returns the manifest.

    Raises:
        CorruptError: a file is missing, added or has other bytes (exit 74); unless ``read``, of
            the bytes only their number is compared.
    """
    manifest = read_manifest(folder)
    found = _files(folder)
    expected: dict[str, dict[str, Any]] = manifest["files"]
    for name in sorted(expected.keys() ^ found.keys()):
        problem = "is missing" if name in expected else "is not in the manifest"
        raise CorruptError(f"{folder / name}: {problem}", _MADE_AGAIN)
    for name, entry in expected.items():
        _require_same(found[name], entry, read=read)
    return manifest


def verify_used(folder: Path, names: Collection[str]) -> None:
    """Checks the bytes of some files of an artifact, and of the others, of any size, their number.

    What is in the folder beside them is nobody's.

    Raises:
        CorruptError: one is missing or is not as its manifest says (exit 74).
    """
    files = read_manifest(folder)["files"]
    for name in sorted({*files, *names}):
        if name not in files or not (folder / name).is_file():
            raise CorruptError(f"{folder / name}: is missing, or not in the manifest", _MADE_AGAIN)
        _require_same(folder / name, files[name], read=name in names)


def _require_same(path: Path, entry: Mapping[str, Any], *, read: bool = True) -> None:
    same = path.stat().st_size == entry["size"]
    if not same or (read and sha256_file(path) != entry["sha256"]):
        raise CorruptError(f"{path}: its bytes are not those that were written", _MADE_AGAIN)
