"""The files that a composition may read, handed to Hydra one by one.

Hydra asks for configs by name while it works out the defaults list. It gets only what our own
reader has read and checked, so Hydra itself opens no file and finds no plugin. What was asked and
what was found is remembered: if every question has the same answer later, so has the composition.
"""

from __future__ import annotations

import hashlib
import stat
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import IConfigRepository
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from slmcompile.console.errors import BadRecipeError, RefusedError
from slmcompile.files.safe_read import check_inside, read_regular
from slmcompile.recipe.defaults import Entry, parse_defaults, refuse_escape
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.project import Project, builtin_conf
from slmcompile.recipe.yaml_file import YamlFile, parse_yaml

# A defaults list that names itself, or doubles at every step, is stopped here.
MAX_FILES = 128
_KEPT = 256
_parsed: OrderedDict[tuple[str, str, bytes], YamlFile] = OrderedDict()


@dataclass(frozen=True)
class Answers:
    """What a composition read: by config path the file and its SHA-256, and which groups exist."""

    configs: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    groups: dict[str, bool] = field(default_factory=dict)

    def still_hold(self, project: Project) -> bool:
        """Whether reading again gives the same; reads every byte, as times can lie."""
        folders = _folders(project)
        for path, known in self.configs.items():
            found = _read(folders, path)
            now = found and (found.shown, hashlib.sha256(found.data).hexdigest())
            if now != known:
                return False
        return all(_is_group(folders, path) == known for path, known in self.groups.items())


class VettedRepository(IConfigRepository):
    """Recipes, the project's groups and the built-in groups, in this order."""

    def __init__(self, project: Project) -> None:
        self._folders = _folders(project)
        self._loads = 0
        self._empty = OmegaConf.create({})
        self.answers = Answers()
        self.files: dict[str, YamlFile | None] = {}
        self.entries: dict[str, tuple[Entry, ...]] = {}

    def file(self, config_path: str) -> YamlFile | None:
        """The parsed file of a config; None if there is none.

        Raises:
            BadRecipeError: it cannot be parsed (exit 78).
            RefusedError: it is a link or a device, or holds what could execute (exit 77).
        """
        if config_path not in self.files:
            found = _read(self._folders, config_path)
            if found is None:
                self.files[config_path] = self.answers.configs[config_path] = None
            else:
                file = _parse_once(found)
                self.files[config_path] = file
                self.answers.configs[config_path] = (found.shown, file.digest)
        return self.files[config_path]

    def load_config(self, config_path: str) -> ConfigResult | None:
        """What Hydra asks for; raises as ``file`` and ``parse_defaults`` do."""
        self._loads += 1
        file = self.file(config_path)
        if file is None:
            return None
        if self._loads > 2 * MAX_FILES:  # Hydra asks twice for each
            where = file.lines.get(("defaults",), 1)
            raise BadRecipeError(
                f"{file.shown}:{where}: defaults: the files name each other in a loop, or are more "
                f"than {MAX_FILES}",
                "take the entry out that leads back",
            )
        if config_path not in self.entries:
            self.entries[config_path] = parse_defaults(file, self.group_exists)
        return ConfigResult(
            provider="slmcompile",
            path=config_path,
            config=self._empty,
            header={"package": file.package},
            defaults_list=[entry.for_hydra() for entry in self.entries[config_path]],
        )

    def group_exists(self, config_path: str) -> bool:
        """Whether a folder of options has this name."""
        if config_path not in self.answers.groups:
            self.answers.groups[config_path] = _is_group(self._folders, config_path)
        return self.answers.groups[config_path]

    def config_exists(self, config_path: str) -> bool:
        """Whether a file of this name is there."""
        return self.file(config_path) is not None

    def get_group_options(
        self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG
    ) -> list[str]:
        """Names of a group's options, sorted; those of all groups or recipes for ``""``."""
        if results_filter is not ObjectType.CONFIG:
            return []
        folders = self._folders[:1] if not group_name else self._folders[1:]
        return sorted(
            {
                path.stem
                for root, folder in folders
                for path in (root / folder / group_name).glob("*.yaml")
            }
        )

    def groups(self) -> list[str]:
        """Names of all groups at the top, sorted."""
        return sorted(
            {
                path.name
                for root, folder in self._folders[1:]
                for path in (root / folder).glob("*")
                if path.is_dir() and path.name != "policy"
            }
        )

    def get_sources(self) -> list[Any]:
        """None: Hydra asks only to name them in an error, which is ours to word."""
        return []

    def get_schema_source(self) -> Any:
        """There is none; the types are ours."""
        raise NotImplementedError

    def initialize_sources(self, config_search_path: Any) -> None:
        """There are none."""
        raise NotImplementedError


def _folders(project: Project) -> tuple[tuple[Path, str], ...]:
    builtin = builtin_conf()
    ours = ((project.root, "recipes"), (project.root, "conf"))
    return ours if builtin == project.conf else (*ours, (builtin.parent, builtin.name))


@dataclass(frozen=True)
class _Found:
    """A file as it lies there: where, how messages name it, its bytes."""

    root: Path
    relative: str
    shown: str
    data: bytes


def _read(folders: tuple[tuple[Path, str], ...], path: str) -> _Found | None:
    """The config in the first of the folders that has it."""
    refuse_escape(path, "defaults")
    for index, (root, folder) in enumerate(folders):
        relative = f"{folder}/{path}.yaml"
        shown = relative if index < 2 else f"slmcompile/{relative}"
        try:
            data = read_regular(root, relative, shown, MAX_BYTES)
        except OSError as error:
            raise BadRecipeError(f"{shown}: {error.strerror}", "make the file readable") from error
        if data is not None:
            return _Found(root, relative, shown, data)
    return None


def _is_group(folders: tuple[tuple[Path, str], ...], path: str) -> bool:
    for root, folder in folders:
        try:
            found = check_inside(root, f"{folder}/{path}", path)
        except RefusedError:
            continue  # a link; whoever asks for a file in it is refused
        if found is not None and stat.S_ISDIR(found.st_mode):
            return True
    return False


def _parse_once(found: _Found) -> YamlFile:
    """Parses; equal bytes in the same place are parsed once a process."""
    key = (str(found.root), found.shown, hashlib.sha256(found.data).digest())
    if key in _parsed:
        _parsed.move_to_end(key)
        return _parsed[key]
    file = parse_yaml(found.data, found.root / found.relative, found.shown)
    _parsed[key] = file
    if len(_parsed) > _KEPT:
        _parsed.popitem(last=False)
    return file
