"""Objects out of a DVC remote of any kind, by DVC's own layers for remotes (3.67, dvc-data 3.18).

What a remote holds is not trusted: a folder's list is read by strict code before anything that it
names is asked for, and whether bytes are the right ones is for the caller to prove, by SHA-256.
No repository of DVC is opened, no cache of the project and no index of a remote is used. Knows
nothing of recipes and statements.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, MissingError, SlmcompileError, UsageError
from slmcompile.console.printable import printable, shortened
from slmcompile.console.redact import redact, secrets_of
from slmcompile.files.artifact import as_missing, write_bytes
from slmcompile.files.safe_read import leads_out
from slmcompile.state.state import object_path

_MD5 = re.compile(r"[0-9a-f]{32}")
_SCHEME = re.compile(r"\w+://")
_PATHS = frozenset(
    {
        "url",
        "gdrive_user_credentials_file",
        "gdrive_service_account_json_file_path",
        "credentialpath",
        "configpath",
        "keyfile",
        "cert_path",
        "key_path",
    }
)
"""Settings of a remote that are paths (``dvc/config.py``, ``Config._map_dirs``)."""
_LARGEST_LIST = 16 << 20
_MOST_FILES = 100_000
_LOGIN = "check the remote's settings (`dvc remote list`) and its login"
_LONGEST = 200


class AbsentError(MissingError):
    """A remote lacks an object (exit 69)."""


def pull(
    project_root: Path,
    remote_name: str,
    objects: Sequence[str],
    cache_folder: Path,
    *,
    config: bytes | None = None,
) -> dict[str, dict[str, str]]:
    """Fetches folders out of a DVC remote into a cache of the form that DVC's have.

    What is in the cache already is not fetched again.

    Args:
        project_root: whose ``.dvc`` has the remote's settings.
        remote_name: of the remote (``main``).
        objects: folders by DVC's name, ``<md5>.dir``.
        cache_folder: where they go; made if it is not there.
        config: ``.dvc/config`` that holds in place of the working tree's.

    Returns:
        For each folder the MD5 of its files by relative path.

    Raises:
        MissingError: no such remote, it does not answer or lacks an object (exit 69).
        CorruptError: a folder's list is none (exit 74).
    """
    shown = f"DVC remote {remote_name!r}"
    with answering(shown, cache_folder):
        source = _remote(project_root, remote_name, config, cache_folder)
        return copy_out(source, shown, objects, cache_folder)


def copy_out(
    source: Any, shown: str, objects: Sequence[str], cache_folder: Path
) -> dict[str, dict[str, str]]:
    """As ``pull``, out of a remote that is open, and files as well as folders.

    Args:
        source: the remote's objects, as DVC opens them (``Remote.odb``); nothing is written there.
        shown: what messages call it.
        objects: by DVC's name, ``<md5>`` or ``<md5>.dir``.
        cache_folder: where they go.

    Raises:
        AbsentError: it lacks one (exit 69).
        CorruptError, MissingError: as ``pull``.
    """
    for name in objects:
        if not _MD5.fullmatch(name.removesuffix(".dir")):
            raise UsageError(
                f"{name!r} is no object of DVC", "its name is an MD5, or that and .dir"
            )
    folders = [name for name in objects if name.endswith(".dir")]
    listed = {name: _list(source, shown, name, cache_folder) for name in folders}
    wanted = {md5 for files in listed.values() for md5 in files.values()}
    _transfer(source, shown, wanted | ({*objects} - {*folders}), cache_folder)
    return listed


@contextmanager
def answering(shown: str, cache_folder: Path | None = None) -> Iterator[None]:
    """Says in a line what DVC and the libraries below it say in a traceback, and no secret.

    Args:
        shown: what messages call the remote.
        cache_folder: where it is copied to, so that a full disk there is told from one of the
            remote's.

    Raises:
        MissingError: whatever the remote's library raises: each has errors of its own (exit 69).
    """
    logger = logging.getLogger("dvc_data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except SlmcompileError:
        raise
    except Exception as error:
        full = as_missing(error, cache_folder) if cache_folder is not None else None
        if full is not None and isinstance(error, OSError) and error.filename is None:
            raise full from error
        raise MissingError(f"{shown}: {_said(error)}", _LOGIN) from error
    finally:
        logger.setLevel(level)


def _said(error: BaseException) -> str:
    told = redact(" ".join(str(error).split()), secrets_of(os.environ))
    return shortened(printable(told), _LONGEST) or type(error).__name__


def _remote(root: Path, name: str, config: bytes | None, cache_folder: Path) -> Any:
    """The remote's objects, as DVC opens them."""
    from dvc.data_cloud import Remote
    from dvc.fs import get_cloud_fs

    settings = _settings(root, config)
    if name not in settings["remote"]:
        there = ", ".join(sorted(settings["remote"]))
        raise MissingError(
            f"there is no DVC remote {name!r}", f"there are {there}" if there else "none is set up"
        )
    kind, options, path = get_cloud_fs(settings, name=name)
    if options.get("worktree") or options.get("version_aware"):
        raise MissingError(
            f"DVC remote {name!r} keeps versions of its own and no objects by their hash",
            "use a remote without worktree and version_aware",
        )
    # Nothing is written there: `get_odb` wants a place, for an index that is not used here.
    options["tmp_dir"] = str(cache_folder)
    return Remote(name, path, kind(**options), **options).odb


def _settings(root: Path, config: bytes | None) -> Any:
    """DVC's settings as it merges them, with another committed file where one is given."""
    from dvc.config import Config, merge

    folder = str(root / ".dvc")
    if config is None:
        return Config(folder, local_dvc_dir=folder)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "config"
        path.write_bytes(config)
        committed = Config.load_file(str(path))
    around = Config(None, local_dvc_dir=folder)
    settings = around.load_config_to_level("repo")
    # Relative paths in it are as if it lay in the project.
    for remote in committed.get("remote", {}).values():
        remote.update({key: _inside(folder, remote[key]) for key in _PATHS & remote.keys()})
    merge(settings, committed)
    merge(settings, around.load_one("local"))
    return Config.validate(settings)


def _inside(folder: str, path: str) -> str:
    """A path of a setting, from the folder of the file that it stands in."""
    if _SCHEME.match(path):
        return path
    return str(Path(os.path.normpath(Path(folder) / Path(path).expanduser())))


def _list(source: Any, shown: str, name: str, cache_folder: Path) -> dict[str, str]:
    place = cache_folder / object_path(name)
    if place.is_file():
        with suppress(CorruptError):  # of another's making, and fetched anew
            return folder_list(place.read_bytes(), name)
    try:
        with source.fs.open(source.oid_to_path(name), "rb") as stream:
            data = stream.read(_LARGEST_LIST + 1)
    except FileNotFoundError as error:
        raise _absent(shown, [name]) from error
    files = folder_list(data, name)
    write_bytes(place, data)
    return files


def folder_list(data: bytes, name: str) -> dict[str, str]:
    """MD5 by relative path out of the bytes of a folder's object.

    Raises:
        CorruptError: they are not those of its name, or no list that DVC writes (exit 74).
    """
    wrong = CorruptError(f"object {name}: not a folder's list", "restore the remote's object")
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != name.removesuffix(".dir"):
        raise CorruptError(
            f"object {name}: its bytes are not those that were written",
            "restore the remote's object",
        )
    try:
        entries = json.loads(data) if len(data) <= _LARGEST_LIST else None
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if not isinstance(entries, list) or len(entries) > _MOST_FILES:
        raise wrong
    files: dict[str, str] = {}
    for entry in entries:
        path, md5 = _entry(entry)
        if not path or not _MD5.fullmatch(md5) or leads_out(path) or path in files:
            raise wrong
        files[path] = md5
    if any(parent in files for path in files for parent in _above(path)):
        raise wrong
    return files


def _entry(entry: Any) -> tuple[str, str]:
    """Path and MD5, empty where they are none."""
    if not isinstance(entry, Mapping):
        return "", ""
    path, md5 = entry.get("relpath"), entry.get("md5")
    if not isinstance(path, str) or not isinstance(md5, str):
        return "", ""
    sound = "\\" not in path and not {"", ".", ".."} & set(path.split("/"))
    return (path, md5) if sound else ("", "")


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _transfer(source: Any, shown: str, wanted: set[str], cache_folder: Path) -> None:
    """Copies objects, each of which appears whole or not at all.

    Not by ``dvc_data``'s ``transfer``, which asks the source first what it has: of a remote that
    is a folder that deletes what is damaged there (``HashFileDB.check``).
    """
    from dvc.fs import LocalFileSystem
    from dvc_data.hashfile.db import get_odb

    place = str(cache_folder / "files" / "md5")
    to = get_odb(LocalFileSystem(), place, hash_name="md5", tmp_dir=str(cache_folder))
    failed: dict[str, BaseException] = {}
    names = sorted(wanted)
    to.add(
        [source.oid_to_path(name) for name in names],
        source.fs,
        names,
        batch_size=to.fs.jobs,
        on_error=failed.__setitem__,
    )
    absent = [name for name, error in failed.items() if isinstance(error, FileNotFoundError)]
    if absent:
        raise _absent(shown, absent)
    for name, error in failed.items():
        missing = as_missing(error, cache_folder) if isinstance(error, OSError) else None
        raise missing or MissingError(
            f"{shown}: object {name} did not arrive: {_said(error)}", _LOGIN
        ) from error


def _absent(shown: str, names: Sequence[str]) -> AbsentError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return AbsentError(
        f"{shown} lacks object {min(names)}{more}",
        "promote again from where it is, or name another remote",
    )
