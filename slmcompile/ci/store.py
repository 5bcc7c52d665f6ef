"""Where results lie outside of a machine: a DVC remote of the project, or one folder of it.

Objects are DVC's, in DVC's own layout, so that ``dvc pull`` finds them too; beside them, below
``slmcompile/``, small files of ours. All is read and written through DVC's own file systems (S3,
GCS, Azure, SSH, a folder), whose credentials come from the environment. What is read proves
nothing by its name: callers compare SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.files.artifact import sha256_file
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache, md5_file
from slmcompile.versions.objects import AbsentError, answering, copy_out

if TYPE_CHECKING:
    from dvc.data_cloud import Remote
    from dvc.repo import Repo

LARGEST = 8 << 20
"""Bytes of a file of ours."""

MAIN = "main"
"""The remote of what was promoted, which is the project's default one."""

PULL_REQUESTS = "pr"
"""The remote below which each pull request has a folder, by its number."""

_FOLDER = "slmcompile"
_CHUNK = 1 << 20


class Store:
    """A DVC remote of a project.

    Args:
        project: whose DVC config names the remote, and whose cache objects go to and come from.
        remote: its name.
        below: a folder of the remote; the remote itself by default.
    """

    def __init__(self, project: Project, remote: str, below: str = "") -> None:
        self._root = project.root
        self._name, self._below = remote, below
        self.shown = f"remote {remote}/{below}" if below else f"remote {remote}"

    def read(self, name: str) -> bytes | None:
        """A file of ours; None where there is none.

        Raises:
            CorruptError: it is larger than any (exit 74).
            MissingError: the remote does not answer (exit 69).
        """
        with answering(self.shown):
            try:
                with self._remote.fs.open(self._path(name), "rb") as stream:
                    data: bytes = stream.read(LARGEST + 1)
            except FileNotFoundError:
                return None
        if len(data) > LARGEST:
            raise CorruptError(f"{self.shown}: {name}: larger than {LARGEST} bytes", "remove it")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of ours, whole or not at all.

        Raises:
            MissingError: the remote does not take it (exit 69).
        """
        with answering(self.shown):
            self._write(io.BytesIO(data), name, len(data))

    def put(self, path: Path, name: str) -> None:
        """Copies a file of this machine, of any size.

        Raises:
            FileNotFoundError: it is no more.
            MissingError: the remote does not take it (exit 69).
        """
        with path.open("rb") as stream, answering(self.shown):
            self._write(stream, name, os.fstat(stream.fileno()).st_size)

    def _write(self, stream: IO[bytes], name: str, size: int) -> None:
        fs, to = self._remote.fs, self._path(name)
        try:
            fs.makedirs(fs.parent(to))
            fs.upload_fobj(stream, to, size=size)
        except FileNotFoundError as error:
            # dvc_objects 5 removes what it could not even begin, and says that alone.
            why = error.__context__ or error
            raise OSError(str(why)) from error

    def get(self, name: str, path: Path) -> bool:
        """Copies a file to this machine, of any size; False where there is none."""
        with answering(self.shown):
            try:
                self._remote.fs.get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
        return True

    def names(self, folder: str) -> tuple[str, ...]:
        """Names of the files and folders in a folder of ours, sorted."""
        with answering(self.shown):
            fs, path = self._remote.fs, self._path(folder)
            try:
                found = [fs.name(each.rstrip("/")) for each in fs.ls(path, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return ()
        return tuple(sorted({*found}))

    def remove(self, folder: str) -> None:
        """Removes a folder of ours, if it is there."""
        with answering(self.shown):
            fs, path = self._remote.fs, self._path(folder)
            if fs.exists(path):
                fs.rm(path, recursive=True)

    def push(self, objects: Sequence[str]) -> None:
        """Copies objects of the project's cache, folders with all their files.

        What is there by its name already is left as it is.

        Raises:
            MissingError: one is not in the cache, or the remote does not take it (exit 69).
        """
        with answering(self.shown):
            failed = self._not_taken(objects)
        if failed:
            raise MissingError(
                f"{self.shown}: {len(failed)} objects were not taken", "try again, or free room"
            )

    def others(self, objects: Sequence[str]) -> tuple[str, ...]:
        """Names under which other bytes lie there than in the project's cache.

        Of objects that the cache has, with all their files; what is not there is none.
        """
        cache = Cache(Project(self._root))
        files = [md5 for each in objects for md5 in (cache.folder(each) or {}).values()]
        with answering(self.shown):
            return tuple(
                each for each in dict.fromkeys([*objects, *files]) if not self._agrees(each, cache)
            )

    def _agrees(self, name: str, cache: Cache) -> bool:
        found = hashlib.sha256()
        try:
            with self._remote.fs.open(self._remote.odb.oid_to_path(name), "rb") as stream:
                while chunk := stream.read(_CHUNK):
                    found.update(chunk)
        except FileNotFoundError:
            return True
        return found.hexdigest() == sha256_file(cache.blob(name))

    def pull(self, objects: Sequence[str]) -> tuple[str, ...]:
        """Copies objects into the project's cache; returns those that are not there, or damaged.

        Nothing is written to the remote, nor removed there.
        """
        with answering(self.shown, Cache(Project(self._root)).root):
            return tuple(each for each in objects if not self._copied(each))

    def _copied(self, name: str) -> bool:
        cache = Cache(Project(self._root)).root
        for _ in range(2):  # what lies damaged in the cache is fetched anew
            try:
                copy_out(self._remote.odb, self.shown, [name], cache)
            except (AbsentError, CorruptError):
                return False
            if self._whole(name):
                return True
        return False

    def _whole(self, name: str) -> bool:
        """Whether the cache has an object as its name says; what has other bytes is removed.

        DVC takes what its cache has on trust.
        """
        cache = Cache(Project(self._root))
        blobs = [name, *(cache.folder(name) or {}).values()] if name.endswith(".dir") else [name]
        wrong = [each for each in blobs if md5_file(cache.blob(each)) != each.removesuffix(".dir")]
        for each in wrong:
            cache.blob(each).unlink(missing_ok=True)
        return not wrong

    @cached_property
    def _repo(self) -> Repo:
        from dvc.repo import Repo

        repo = Repo(str(self._root))
        if not self._below:
            return repo
        config = dict(repo.config["remote"].get(self._name) or {})
        if not config:
            return repo
        url = f"{str(config['url']).rstrip('/')}/{self._below}"
        return Repo(str(self._root), config={"remote": {self._name: {**config, "url": url}}})

    @cached_property
    def _remote(self) -> Remote:
        if self._name not in self._repo.config["remote"]:
            raise MissingError(
                f".dvc/config: no remote {self._name}", f"run `dvc remote add {self._name} URL`"
            )
        return self._repo.cloud.get_remote(self._name)

    @cached_property
    def _cache(self) -> Any:
        return self._repo.cache.local

    def _not_taken(self, objects: Sequence[str]) -> list[str]:
        """Copies from the cache; returns those of the objects, or of their files, that were not."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.transfer import transfer

        missing: list[str] = []

        def note(status: Any) -> None:
            missing.extend(str(each.value) for each in status.missing)

        wanted = {HashInfo("md5", each) for each in objects}
        try:
            # Without DVC's index of what a remote has, which another machine may have changed.
            done = transfer(
                *(self._cache, self._remote.odb, wanted),
                validate_status=note,
                cache_odb=self._cache,
                shallow=False,
            )
        except FileNotFoundError:
            return list(objects)
        return [*missing, *(str(each.value) for each in done.failed)]

    def _path(self, name: str) -> str:
        fs = self._remote.fs
        return str(fs.join(self._remote.path, _FOLDER, *name.split("/")))
