"""The ``defaults:`` list of one file: which entries there may be, each with its line.

Hydra decides what the entries mean together; this module decides what they may say, so that an
entry that names a file outside the groups is refused before anything of it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault

from slmcompile.console.errors import BadRecipeError, RefusedError
from slmcompile.console.printable import shortened
from slmcompile.recipe.dump import as_written
from slmcompile.recipe.policy_keys import refuse_policy
from slmcompile.recipe.yaml_file import YamlFile

MAX_ENTRIES = 64
_EXAMPLE = "name a group and an option, e.g. `- model: smollm2-135m`"
# What leads out of the groups: parent folders, URLs, Windows paths, home folders, Hydra's own
# configuration, and interpolations, which could compute any of these.
_ESCAPE = re.compile(r"\.\.|//|\\|^~|:/|\$\{|(^|[\s/@:.])hydra($|[\s/@:.])")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}){0,7}")
_PACKAGE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}")
_KEYWORDS = {"optional", "override"}


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        where: ``file:line``, for messages.
        path: the group, or for an entry without an option the config; without a leading ``/``.
        option: the option or options of a group; None where nothing is chosen.
        is_group: whether it names a group and not a config.
        absolute: whether it was written with a leading ``/``.
        package: where the values go, if it says so.
        override: replaces what an earlier entry chose.
        optional: may name an option that is not there.
    """

    where: str
    path: str
    option: str | tuple[str, ...] | None = None
    is_group: bool = False
    absolute: bool = False
    package: str | None = None
    override: bool = False
    optional: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Its options as a tuple, whether one or several."""
        if self.option is None:
            return ()
        return (self.option,) if isinstance(self.option, str) else self.option

    def for_hydra(self) -> InputDefault:
        """The entry in Hydra's own types."""
        path = f"/{self.path}" if self.absolute else self.path
        if not self.is_group:
            return ConfigDefault(path=path, package=self.package)
        value = list(self.option) if isinstance(self.option, tuple) else self.option
        return GroupDefault(
            group=path,
            value=value,
            package=self.package,
            optional=self.optional,
            override=self.override,
        )


def parse_defaults(file: YamlFile, is_group: Callable[[str], bool]) -> tuple[Entry, ...]:
    """The entries of a file, ``_self_`` made explicit.

    Args:
        file: the parsed file.
        is_group: whether a path is a folder of options; an absolute entry must name one.

    Raises:
        BadRecipeError: an entry of the wrong form, a group or ``_self_`` given twice (exit 78).
        RefusedError: an entry that leaves the groups (exit 77).
    """
    written = file.content.get("defaults")
    if "defaults" not in file.content:
        return ()
    start = f"{file.shown}:{file.lines[('defaults',)]}: defaults"
    if not isinstance(written, list):
        raise BadRecipeError(f"{start}: not a list", "write `defaults:` and below it `- model: …`")
    if len(written) > MAX_ENTRIES:
        raise BadRecipeError(f"{start}: more than {MAX_ENTRIES} entries", "leave some out")
    entries: list[Entry] = []
    seen: dict[tuple[str, str | None, bool], str] = {}
    overriding = ""
    for index, item in enumerate(written):
        where = f"{file.shown}:{file.lines[('defaults', str(index))]}"
        entry = _entry(item, where, is_group)
        same = (entry.path, entry.package, entry.is_group)
        if same in seen:
            raise BadRecipeError(
                f"{where}: defaults: {entry.path} is listed twice, first on line "
                f"{seen[same].rpartition(':')[2]}",
                "keep one of the two; several options go in one entry: `- target: [a, b]`"
                if entry.is_group
                else "keep one of the two",
            )
        seen[same] = where
        if overriding and not entry.override and entry.path != "_self_":
            raise BadRecipeError(
                f"{where}: defaults: {entry.path} stands behind an `override` entry",
                "put the `override` entries at the end of the list",
            )
        overriding = where if entry.override else overriding
        entries.append(entry)
    if entries and ("_self_", None, False) not in seen:
        entries.append(Entry(start, "_self_"))
    return tuple(entries)


def _entry(item: Any, where: str, is_group: Callable[[str], bool]) -> Entry:
    if isinstance(item, str):
        return _config_entry(item, where, is_group)
    if not isinstance(item, dict) or len(item) != 1:
        raise BadRecipeError(f"{where}: defaults: an entry is one group and its option", _EXAMPLE)
    ((key, value),) = item.items()
    refuse_escape(key, f"{where}: defaults")
    refuse_policy(key, where)
    *keywords, written = key.split(" ")
    if not set(keywords) <= _KEYWORDS:
        raise BadRecipeError(
            f"{where}: defaults: {shortened(key)!r} is not a group",
            "before a group only the words `override` and `optional` may stand",
        )
    path, package = _split_package(written, where)
    absolute = path.startswith("/")
    path = _checked_path(path.removeprefix("/"), f"{where}: defaults")
    if absolute and not is_group(path):
        raise RefusedError(
            f"{where}: defaults: /{path} leaves the recipe's groups: no group has this name",
            _EXAMPLE,
        )
    return Entry(
        where,
        path,
        option=_option(path, value, where),
        is_group=True,
        absolute=absolute,
        package=package,
        override="override" in keywords,
        optional="optional" in keywords,
    )


def _config_entry(item: str, where: str, is_group: Callable[[str], bool]) -> Entry:
    if item == "_self_":
        return Entry(where, "_self_")
    refuse_escape(item, f"{where}: defaults")
    refuse_policy(item, where)
    path, package = _split_package(item, where)
    absolute = path.startswith("/")
    path = _checked_path(path.removeprefix("/"), f"{where}: defaults")
    if absolute and not is_group(path.rpartition("/")[0]):
        raise RefusedError(f"{where}: defaults: /{path} leaves the recipe's groups", _EXAMPLE)
    return Entry(where, path, absolute=absolute, package=package)


def _option(group: str, value: Any, where: str) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    if value == "???":
        return "???"
    if isinstance(value, dict):
        raise BadRecipeError(
            f"{where}: defaults: {group} holds values and not an option",
            "name an option here and put values below, outside `defaults`",
        )
    words = value if isinstance(value, list) else [value]
    for word in words:
        if not isinstance(word, str):
            raise BadRecipeError(
                f"{where}: defaults: {group}: an option's name is text (given {as_written(word)})",
                f'write it in quotes: "{as_written(word)}"',
            )
        check_option(word, f"{where}: defaults: {group}")
    refuse_repeated(words, f"{where}: defaults: {group}")
    return tuple(words) if isinstance(value, list) else str(value)


def check_option(word: str, where: str) -> None:
    """Checks the name of an option, from a file or from an override.

    Raises:
        RefusedError: it leads out of its group (exit 77).
        BadRecipeError: it is not a name (exit 78).
    """
    refuse_escape(word, where)
    if word.startswith("/"):
        raise RefusedError(f"{where}: {shortened(word)} leaves the recipe's groups", _EXAMPLE)
    _checked_path(word, where)


def refuse_repeated(options: Sequence[str], where: str) -> None:
    """Refuses a list of options that names one twice (exit 78)."""
    for option in options:
        if options.count(option) > 1:
            raise BadRecipeError(
                f"{where}: {shortened(option)!r} is listed twice", "keep one of the two"
            )


def refuse_escape(text: str, where: str) -> None:
    """Refuses what names a file outside the groups, or Hydra's own configuration (exit 77)."""
    if _ESCAPE.search(text):
        raise RefusedError(f"{where}: {shortened(text)!r} leaves the recipe's groups", _EXAMPLE)


def _split_package(text: str, where: str) -> tuple[str, str | None]:
    path, mark, package = text.partition("@")
    if not mark:
        return path, None
    if not _PACKAGE.fullmatch(package):
        raise BadRecipeError(
            f"{where}: defaults: {shortened(package)!r} is not a package", "write `group@a.b: …`"
        )
    return path, package


def _checked_path(path: str, where: str) -> str:
    if not _PATH.fullmatch(path):
        raise BadRecipeError(
            f"{where}: {shortened(path)!r} is not a name",
            "names are letters, digits, -, _ and . only",
        )
    return path
