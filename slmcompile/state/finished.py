"""Finished work, found again by its fingerprint.

DVC deletes the outputs of a stage that its lock does not know before it runs the stage again, so a
kill between a stage's end and the lock's write would cost the whole of the work. Therefore an
artifact is kept, by hard links, from the moment it is whole until DVC's lock has it. And a stage
whose folder has another name than the one where the same work was done before (a recipe was
renamed, a data file moved) takes it from there, or from DVC's cache.

What is taken is compared by fingerprint and by the SHA-256 of every file; nothing else is trusted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, SlmcompileError
from slmcompile.files.artifact import (
    MANIFEST,
    MAX_MANIFEST,
    appearing,
    lists_files,
    read_manifest,
    verify,
    write_json,
)
from slmcompile.files.safe_read import check_inside, leads_out, read_json, read_regular
from slmcompile.files.second_name import link_or_copy
from slmcompile.plans.definition import Stage, all_of, one_or_all
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.project import Project
from slmcompile.state.locks import kept_work, kept_work_alone
from slmcompile.state.scratch import forget_adapters
from slmcompile.state.state import Cache, md5_file, object_path, read_lock

_FORMAT_VERSION = "1.0"
_FORGOTTEN = 14 * 86400.0
"""Seconds after which a kept artifact that no lock has ever had is given up."""


@dataclass(frozen=True)
class Texts:
    """What a stage writes beside its folder: its DVC metrics and plots files."""

    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finished:
    """An artifact of the work that was asked for.

    Attributes:
        folder: where it lies.
        texts: what the stage wrote beside it.
    """

    folder: Path
    texts: Texts


def keep(
    project: Project, spec: Mapping[str, Any], fingerprint: str, whole: Path, texts: Texts
) -> None:
    """Keeps an artifact that is whole, and writes down where it is going to be.

    Args:
        project: whose stage it is.
        spec: the stage's spec.
        fingerprint: of the work.
        whole: folder with all files and the manifest.
        texts: what the stage writes beside its folder.
    """
    if KINDS[spec["kind"]].constant:
        return
    record = {
        "format_version": _FORMAT_VERSION,
        "stage": spec["stage"],
        "out": spec["out"],
        "object": None,
        "metrics": one_or_all(texts.metrics),
        "plots": one_or_all(texts.plots),
    }
    with kept_work(project):
        write_json(_record(project, fingerprint), record)
        with appearing(_kept(project, fingerprint)) as copy:
            link(whole, copy)


@contextmanager
def found(
    project: Project, kind: str, fingerprint: str, say: Callable[[str], None]
) -> Iterator[Finished | None]:
    """The artifact of this very work, whole and verified, for a block; None where there is none.

    One that is damaged is passed over, and ``say`` is told.
    """
    with kept_work(project):
        yield _find(project, kind, fingerprint, say)


def _find(
    project: Project, kind: str, fingerprint: str, say: Callable[[str], None]
) -> Finished | None:
    record = _read_record(project, fingerprint)
    if record is None or KINDS[kind].constant:
        return None
    for place in _places(project, fingerprint, record):
        try:
            folder = place or _from_cache(project, fingerprint, record)
            if folder is None or not _is_of(read_manifest(folder), kind, fingerprint):
                continue
            verify(folder)
        except (CorruptError, OSError) as error:
            what = error.what if isinstance(error, SlmcompileError) else str(error)
            say(f"{what}; it is not used again")
            continue
        # It is wanted again, so its time begins again.
        with suppress(OSError):
            os.utime(_kept(project, fingerprint))
        return Finished(folder, Texts(all_of(record["metrics"]), all_of(record["plots"])))
    return None


def forecast(project: Project, kind: str, fingerprint: str) -> tuple[str, dict[str, Any]] | None:
    """Where ``found`` would find it, as far as sizes tell, and the manifest there."""
    record = _read_record(project, fingerprint)
    if record is None or KINDS[kind].constant:
        return None
    for folder in _places(project, fingerprint, record):
        try:
            if folder is None:
                manifest = cached_manifest(Cache(project), record["object"] or "")
            else:
                manifest = verify(folder, read=False)
        except (CorruptError, OSError):
            continue
        if manifest is not None and _is_of(manifest, kind, fingerprint):
            return project.shown(folder) if folder else "cache", manifest
    return None


def cached_manifest(cache: Cache, md5: str) -> dict[str, Any] | None:
    """The manifest of an output that DVC's cache holds whole, unverified; None if there is none."""
    entry = (cache.folder(md5) or {}).get(MANIFEST)
    if entry is None or not cache.has(md5):
        return None
    manifest = read_json(cache.root, object_path(entry), MAX_MANIFEST)
    return manifest if isinstance(manifest, dict) and lists_files(manifest.get("files")) else None


def record_of(project: Project, stage: Stage) -> dict[str, Any] | None:
    """What there is to write down of a stage that DVC's lock and cache have, for another machine.

    None where they have not, or where its metrics and plots are not as the lock has them.
    """
    locked = read_lock(project, stage.pipeline).get(stage.name)
    md5 = locked.outs.get(stage.out) if locked else None
    if locked is None or md5 is None or not Cache(project).has(md5, locked.sizes.get(stage.out)):
        return None
    texts: dict[str, str] = {}
    for path in (*stage.metrics, *stage.plots):
        data = read_regular(project.root, path, path, MAX_MANIFEST)
        if data is None or locked.outs.get(path) != md5_file(project.root / path):
            return None
        texts[path] = data.decode("utf-8")
    return {
        "format_version": _FORMAT_VERSION,
        "stage": stage.address,
        "out": stage.out,
        "object": md5,
        "metrics": one_or_all(tuple(texts[path] for path in stage.metrics)),
        "plots": one_or_all(tuple(texts[path] for path in stage.plots)),
    }


def adopt(project: Project, fingerprint: str, record: Mapping[str, Any]) -> bool:
    """Writes down a record of another machine, whose object the cache has; False if it is none."""
    fields = ("format_version", "stage", "out", "object", "metrics", "plots")
    write_json(_record(project, fingerprint), {name: record.get(name) for name in fields})
    if _read_record(project, fingerprint) is not None:
        return True
    _record(project, fingerprint).unlink(missing_ok=True)
    return False


def release(project: Project) -> None:
    """Gives up what is kept and stands in DVC's lock and cache by now, or was never asked for.

    Not while any of it is in use: this is housekeeping, and the next stage does it.
    """
    forget_adapters(project, _FORGOTTEN)
    kept = project.scratch / "kept"
    if not kept.is_dir():
        return
    with kept_work_alone(project) as alone, suppress(OSError):
        for path in sorted(kept.iterdir()) if alone else ():
            record = _read_record(project, path.name)
            with suppress(OSError, SlmcompileError):
                old = time.time() - path.stat().st_mtime > _FORGOTTEN
                if record is None or old or _note_object(project, path, record):
                    shutil.rmtree(path, ignore_errors=True)
        if alone:
            kept.rmdir()


def link(folder: Path, to: Path) -> None:
    """Gives every file of ``folder`` a second name below the existing folder ``to``.

    Files are copied where the file system has no hard links.
    """
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        # DVC may have left a link into its cache.
        link_or_copy(os.path.realpath(source), to / source.relative_to(folder))


def _record(project: Project, fingerprint: str) -> Path:
    return project.scratch / "finished" / f"{fingerprint}.json"


def _kept(project: Project, fingerprint: str) -> Path:
    return project.scratch / "kept" / fingerprint


def _read_record(project: Project, fingerprint: str) -> dict[str, Any] | None:
    record = read_json(project.root, f".slmcompile/finished/{fingerprint}.json")
    if not isinstance(record, dict):
        return None
    texts = isinstance(record.get("object"), str | None)
    for written in (record.get("metrics"), record.get("plots")):
        listed = written if isinstance(written, list) else [written or ""]
        texts = texts and all(isinstance(text, str) for text in listed)
    named = all(isinstance(record.get(name), str) for name in ("stage", "out"))
    sound = texts and named and str(record.get("format_version")).startswith("1.")
    return record if sound and not leads_out(record["out"]) else None


def _places(project: Project, fingerprint: str, record: Mapping[str, Any]) -> Iterator[Path | None]:
    """Folders in which the work may lie, inside the project and behind no link; None: the cache."""
    for path in (f".slmcompile/kept/{fingerprint}", record["out"]):
        with suppress(SlmcompileError):
            if check_inside(project.root, path, path) is not None:
                yield project.root / path
    if record["object"]:
        yield None


def _is_of(manifest: Mapping[str, Any], kind: str, fingerprint: str) -> bool:
    """Whether a manifest says that its folder holds this work; one of other work is no damage."""
    return manifest.get("fingerprint") == fingerprint and manifest.get("kind") == kind


def _from_cache(project: Project, fingerprint: str, record: Mapping[str, Any]) -> Path | None:
    """Keeps again what DVC's cache holds."""
    cache = Cache(project)
    entries = cache.folder(record["object"])
    if entries is None or not cache.has(record["object"]):
        return None
    folder = _kept(project, fingerprint)
    with appearing(folder) as copy:
        for name, md5 in entries.items():
            link_or_copy(os.path.realpath(cache.blob(md5)), copy / name)
    return folder


def _note_object(project: Project, kept: Path, record: Mapping[str, Any]) -> bool:
    """Writes down the object in which DVC's cache holds an artifact, once its lock names it."""
    pipeline, _, name = record["stage"].partition("/")
    locked = read_lock(project, pipeline).get(name)
    md5 = locked.outs.get(record["out"]) if locked else None
    cache = Cache(project)
    if md5 is None or not cache.has(md5, locked.sizes.get(record["out"]) if locked else None):
        return False
    if (cache.folder(md5) or {}).get(MANIFEST) != md5_file(kept / MANIFEST):
        return False
    write_json(_record(project, kept.name), {**record, "object": md5})
    return True
