"""What of a file's name is content: how its reader takes it, and nothing else.

The same bytes under another path are the same input. What is left of a path is the ending, which
may say the format, and of a file in a folder that is read whole its place in there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

_COMPRESSED = frozenset({".gz", ".zst"})


def without_names(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A copy of ``config`` that holds the content of its names alone.

    Args:
        config: JSON values.
        names: dotted keys of paths, or of lists of paths; those that are not there are passed over.
    """
    found = dict(config)
    for name in names:
        first, *rest = name.split(".")
        if first in found:
            found[first] = _without_name(found[first], rest)
    return found


def _without_name(value: Any, keys: Sequence[str]) -> Any:
    """A copy of a value in which what lies at ``keys`` is its content's name alone."""
    if keys and isinstance(value, Mapping):
        key, *rest = keys
        return {**value, key: _without_name(value[key], rest)} if key in value else value
    if keys and isinstance(value, (list, tuple)):
        number, *rest = keys
        return [
            _without_name(each, rest) if str(at) == number else each
            for at, each in enumerate(value)
        ]
    if not keys and isinstance(value, str):
        return _ending(value)
    if not keys and isinstance(value, (list, tuple)):
        return [_ending(path) for path in value]
    return value


def content_names(
    config: Mapping[str, Any], names: Sequence[str], files: Sequence[str]
) -> list[tuple[str, str]]:
    """Each file's path and what its name says of its content, in the order of ``files``.

    A file that is read in two splits is there twice, so that which split it is in is never lost.

    Args:
        config: a stage's whole configuration.
        names: dotted keys in it that hold paths.
        files: the files that the stage reads, project-relative.
    """
    folders = [f"{value}/" for name in names for value in _paths(config, name)]
    return [
        (path, next((path[len(at) :] for at in folders if path.startswith(at)), _ending(path)))
        for path in files
    ]


def named_files(
    config: Mapping[str, Any], names: Sequence[str], files: Sequence[str]
) -> list[tuple[str, str]]:
    """Of the files that a stage reads, those that its recipe names or whose folder it names.

    The others are the project's: its policy, the files of a plug-in.

    Returns:
        Each file's path and the dotted key in ``config`` that names it; arguments as
        ``content_names`` has them.
    """
    at = {normpath(path): name for name in names for path in _paths(config, name)}
    places = {path: [path, *map(str, PurePosixPath(path).parents)] for path in files}
    return [(path, at[place]) for path, above in places.items() for place in above if place in at]


def named_entry(config: Mapping[str, Any], name: str) -> str:
    """The ``name`` of the entry of a list in which a dotted key lies; empty where it is in none."""
    keys = name.split(".")
    within = (_at(config, keys[: n + 1]) for n, key in enumerate(keys) if key.isdigit())
    entry = next(within, None)
    return str(entry.get("name", "")) if isinstance(entry, Mapping) else ""


def _at(config: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(config, list | tuple):
            config = config[int(key)] if key.isdigit() and int(key) < len(config) else None
        else:
            config = config.get(key) if isinstance(config, Mapping) else None
    return config


def identity_of_member(identity: Mapping[str, Any], member: str) -> dict[str, Any]:
    """The identity of one adapter's training, given that of a stage which trains several.

    In isolation it is that of the adapter alone, whose bytes it has.

    Args:
        identity: of the stage, or its whole spec.
        member: the adapter's name.
    """
    config = identity["config"]
    depends = config["depends"][member]
    epochs = {entry: identity["epochs"][entry] for entry in depends["epochs"]}
    return {
        **{key: value for key, value in identity.items() if key != "epochs"},
        **({"epochs": epochs} if epochs else {}),
        "config": {
            **config["members"][member],
            **({} if config["isolated"] else {"grouped": True}),
        },
        "packages": {name: identity["packages"][name] for name in depends["packages"]},
    }


def names_of_member(
    config: Mapping[str, Any], names: Sequence[str], files: Sequence[str], member: str
) -> tuple[list[str], list[str]]:
    """Of what a stage for several adapters names and reads, what is of one; see ``named_files``.

    A file that others alone name is nothing to it; one that nobody names may be.

    Args:
        config: the stage's, with each adapter's in ``members``.
        names: dotted keys in it that hold paths.
        files: the files that the stage reads.
        member: the adapter's name.

    Returns:
        Keys in the adapter's own config, and files.
    """
    prefix = f"members.{member}."
    own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    named = {path for path, _ in named_files(config, names, files)}
    named -= {path for path, _ in named_files(config["members"][member], own, files)}
    return own, [path for path in files if path not in named]


def _paths(config: Any, name: str) -> list[str]:
    config = _at(config, name.split("."))
    listed = config if isinstance(config, list | tuple) else [config]
    return [path for path in listed if isinstance(path, str)]


def _ending(path: str) -> str:
    """``.jsonl``, ``.csv.gz``: what decides how a file is read."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    return "".join(
        suffixes[-2:] if suffixes[-1:] and suffixes[-1] in _COMPRESSED else suffixes[-1:]
    )
