"""Checkpoints of a run that may be killed, in a store: its successor goes on from them.

A file is stored under its SHA-256 and the list of files comes last, so that what is there is whole
at any moment. What a stage then finds it reads as any checkpoint: by the fingerprint of what is
learnt, and by the manifest's own SHA-256.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress

from slmcompile.ci.store import Store
from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.files.artifact import MANIFEST, json_text, sha256_file
from slmcompile.files.foreign import opened_below
from slmcompile.files.safe_read import leads_out
from slmcompile.files.strict_json import decoder
from slmcompile.recipe.project import Project

_FOLDER = "checkpoints"
_LIST = "files.json"
_WORK = re.compile(r"[0-9a-f]{16}")
_SHA = re.compile(r"[0-9a-f]{64}")
_MOST_FILES = 1000


class Checkpoints:
    """Those of the stages of one tree.

    Args:
        project: the tree.
        store: where they are kept.
    """

    def __init__(self, project: Project, store: Store) -> None:
        self._folder = project.scratch / "scratch"
        self._store = store
        self._sent: dict[str, dict[str, str]] = {}
        self._known: dict[tuple[str, str], tuple[int, str]] = {}

    def bring(self, say: Callable[[str], None]) -> None:
        """Puts those of earlier attempts in place; ``say`` is told of what is damaged."""
        for work in filter(_WORK.fullmatch, self._store.names(_FOLDER)):
            files = self._listed(work)
            try:
                whole = bool(files) and self._brought(work, files)
            except (OSError, ValueError):
                whole = False  # a name is no file's, or that of a file and of a folder
            if not whole:
                shutil.rmtree(self._folder / work, ignore_errors=True)
                say(f"{self._store.shown}: checkpoints of {work}: damaged; begun anew")

    def send(self) -> None:
        """Stores those that are whole and differ from what is stored; forgets what is done."""
        here = {path.name for path in self._folder.glob("*") if _WORK.fullmatch(path.name)}
        for work in sorted(here):
            with suppress(OSError):  # the training has just given an older one up
                self._send(work)
        for work in self._sent.keys() - here:
            self._forget(work)
            del self._sent[work]

    def _forget(self, path: str) -> None:
        """Removes what nobody needs, where the credentials allow that."""
        with suppress(MissingError):
            self._store.remove(f"{_FOLDER}/{path}")

    def _send(self, work: str) -> None:
        files: dict[str, str] = {}
        for manifest in sorted((self._folder / work).rglob(MANIFEST)):
            inside = manifest.relative_to(self._folder / work)
            if not any(part.startswith(".") for part in inside.parts):
                for path in sorted(manifest.parent.rglob("*")):
                    name = path.relative_to(self._folder / work).as_posix()
                    if sha := self._sha(work, name):
                        files[name] = sha
        if not files or len(files) > _MOST_FILES or files == self._sent.get(work):
            return
        stored = {*self._sent.get(work, {}).values()}
        for name, sha in files.items():
            if sha not in stored:
                with opened_below(self._folder / work, name) as path:
                    self._store.put(path, f"{_FOLDER}/{work}/{sha}")
        self._store.write(f"{_FOLDER}/{work}/{_LIST}", json_text(files).encode())
        for sha in stored - {*files.values()}:
            self._forget(f"{work}/{sha}")
        self._sent[work] = files

    def _sha(self, work: str, name: str) -> str:
        """Of a file that never changes once its folder has its name; empty of what is none.

        Code of the project may be running that writes there: a link could lead to a credential.
        """
        try:
            with opened_below(self._folder / work, name) as path:
                inode, at = path.stat().st_ino, (work, name)
                known = self._known.get(at)
                if known is None or known[0] != inode:
                    known = self._known[at] = (inode, sha256_file(path))
                return known[1]
        except OSError:
            return ""

    def _listed(self, work: str) -> dict[str, str]:
        """SHA-256 of files by path; empty where there is no list that can be used."""
        try:
            data = self._store.read(f"{_FOLDER}/{work}/{_LIST}")
            files = decoder().decode((data or b"").decode("utf-8"))
            good = len(files) <= _MOST_FILES and all(
                _SHA.fullmatch(sha) and not leads_out(name) for name, sha in files.items()
            )
        except (CorruptError, ValueError, TypeError, AttributeError, RecursionError):
            return {}
        return dict(files) if good else {}

    def _brought(self, work: str, files: dict[str, str]) -> bool:
        to = self._folder / work
        for name, sha in files.items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            found = self._store.get(f"{_FOLDER}/{work}/{sha}", to / name)
            if not found or sha256_file(to / name) != sha:
                (to / name).unlink(missing_ok=True)
                return False
        self._sent[work] = files
        return True
