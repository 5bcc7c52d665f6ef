"""A recipe and its groups, composed by Hydra and validated into a typed ``Recipe``.

Hydra decides which files take part and in which order (its defaults list) and parses overrides.
We load those files ourselves, so that every key keeps its file and line and nothing in them can
execute, merge them with OmegaConf and validate the result. ``@hydra.main``, ``hydra.utils
.instantiate``, the ``hydra`` config node and plugin discovery are never involved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from slmcompile.errors import BadRecipeError, RefusedError, SlmcompileError
from slmcompile.project import Project, builtin_conf, nearest
from slmcompile.recipe.names import section_at, suggest
from slmcompile.recipe.schema import Recipe
from slmcompile.recipe.yaml_file import KeyPath, YamlFile, read_yaml, refuse_code

_ESCAPE = re.compile(r"\.\.|://|\\|^(override\s+)?/?hydra(/|$)|\$\{")


@dataclass(frozen=True)
class Composed:
    """A validated recipe and what it was made from.

    Attributes:
        name: the recipe's name.
        recipe: the typed recipe, defaults materialised.
        files: the contributing files, in the order in which they were merged.
        overrides: Hydra overrides in the order given.
        origins: where each key path got its value, as messages show it (``file:line``).
    """

    name: str
    recipe: Recipe
    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    origins: dict[KeyPath, str]

    def origin(self, keys: KeyPath) -> str:
        """``file:line`` of a key, or of the nearest section above it."""
        return _origin(self.origins, keys, self.name)


def compose(project: Project, name: str, overrides: Sequence[str] = ()) -> Composed:
    """Composes and validates ``recipes/<name>.yaml`` with ``overrides`` (``a.b=c``).

    Raises:
        BadRecipeError: unknown key, wrong type, missing group, broken YAML (exit 78).
        RefusedError: something that could execute code or leave the project (exit 77).
    """
    path = project.recipe_file(name)
    first = read_yaml(path, project.shown(path))
    parsed = _parse_overrides(overrides)
    defaults, assignments = _defaults_list(project, first, parsed)
    files = [
        (default, _load(project, default, first)) for default in defaults if default.config_path
    ]
    config, origins = _merge(files)
    _assign(config, assignments, origins)
    try:
        raw = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        keys = tuple(str(error.full_key or "").split("."))
        problem = str(error.msg or error).splitlines()[0]
        raise BadRecipeError(
            f"{_origin(origins, keys, name)}: {'.'.join(keys)}: {problem}",
            "refer to a key that exists",
        ) from error
    recipe = _validate(cast(dict[Any, Any], raw), origins, name)
    used = tuple(dict.fromkeys(file.path for _, file in files))
    return Composed(name, recipe, used, tuple(overrides), origins)


def _parse_overrides(overrides: Sequence[str]) -> list[Override]:
    seen: dict[str, str] = {}
    parsed: list[Override] = []
    for text in overrides:
        where = f"override {text!r}"
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise BadRecipeError(f"{where}: not key=value", "write section.key=value") from error
        key = override.key_or_group
        if key == "hydra" or key.startswith(("hydra.", "hydra/")):
            raise RefusedError(f"{where}: hydra settings are refused", "remove it")
        if override.is_sweep_override():
            raise BadRecipeError(f"{where}: a sweep is not one value", "give a single value")
        if key in seen:
            raise BadRecipeError(f"{where}: {key} is given twice", f"drop {seen[key]!r} or this")
        seen[key] = text
        for part in key.replace("/", ".").split("."):
            refuse_code(part, text, where)
        parsed.append(override)
    return parsed


def _defaults_list(
    project: Project, first: YamlFile, overrides: list[Override]
) -> tuple[list[ResultDefault], list[Override]]:
    _refuse_escapes(first)
    # Hydra fills this registry by plugin discovery, which imports every hydra_plugins package.
    SourcesRegistry.instance().register(FileConfigSource)
    search = ConfigSearchPathImpl()
    search.append("recipes", f"file://{project.recipes}")
    for provider, folder in (("project", project.conf), ("slmcompile", builtin_conf())):
        if folder.is_dir():
            search.append(provider, f"file://{folder}")
    repository = CachingConfigRepository(ConfigRepository(search))
    try:
        result = create_defaults_list(
            repo=repository,
            config_name=first.path.stem,
            overrides_list=overrides,
            prepend_hydra=False,
            skip_missing=False,
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise _missing_group(project, first, overrides, error) from error
    return list(result.defaults), list(result.config_overrides)


def _refuse_escapes(file: YamlFile) -> None:
    """Refuses defaults entries that name a file outside the groups (exit 77)."""
    entries = file.content.get("defaults", [])
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        parts = [*entry.keys(), *entry.values()] if isinstance(entry, dict) else [entry]
        if any(_ESCAPE.search(str(part)) for part in parts):
            where = file.lines.get(("defaults", str(index)), 1)
            raise RefusedError(
                f"{file.shown}:{where}: defaults: entry leaves the recipe's groups",
                "name a group and an option, e.g. `- model: smollm2-135m`",
            )


def _missing_group(
    project: Project, first: YamlFile, overrides: list[Override], error: Exception
) -> SlmcompileError:
    """Hydra's message in our form: which entry, where, and the options that there are."""
    missing = str(getattr(error, "missing_cfg_file", "") or "")
    group, _, option = missing.rpartition("/")
    where = next(
        (
            f"override {override.input_line!r}"
            for override in overrides
            if override.key_or_group == group and option in str(override.input_line)
        ),
        first.shown,
    )
    if where == first.shown:
        lines = [
            line for keys, line in first.lines.items() if keys[0] == "defaults" and group in keys
        ]
        where = f"{first.shown}:{lines[0]}" if lines else where
    if group:
        options = sorted(
            {
                path.stem
                for folder in (project.conf, builtin_conf())
                for path in (folder / group).glob("*.yaml")
            }
        )
        mend = nearest(f"options of {group}:", option, options)
        return BadRecipeError(f"{where}: no {group} is called {option!r}", mend)
    problem = " ".join(str(error).splitlines()[:1])
    return BadRecipeError(f"{where}: {problem}", "mend the defaults list")


def _load(project: Project, default: ResultDefault, first: YamlFile) -> YamlFile:
    if default.primary:
        return first
    for folder in (project.recipes, project.conf, builtin_conf()):
        path = folder / f"{default.config_path}.yaml"
        if path.is_file():
            shown = project.shown(path)
            return read_yaml(path, shown if not Path(shown).is_absolute() else f"conf/{path.name}")
    raise BadRecipeError(f"conf/{default.config_path}.yaml: no such file", "write it")


def _merge(
    files: list[tuple[ResultDefault, YamlFile]],
) -> tuple[DictConfig, dict[KeyPath, str]]:
    config = OmegaConf.create({})
    origins: dict[KeyPath, str] = {}
    for default, file in files:
        content: dict[str, Any] = {k: v for k, v in file.content.items() if k != "defaults"}
        if "hydra" in content:
            raise RefusedError(
                f"{file.shown}:{file.lines[('hydra',)]}: hydra settings are refused", "remove them"
            )
        package = tuple(default.package.split(".")) if default.package else ()
        for key in reversed(package):
            content = {key: content}
        for keys, line in file.lines.items():
            if keys[0] != "defaults":
                origins[package + keys] = f"{file.shown}:{line}"
        try:
            config = cast(DictConfig, OmegaConf.merge(config, content))
        except OmegaConfBaseException as error:
            problem = str(error.msg or error).splitlines()[0]
            raise BadRecipeError(f"{file.shown}: {problem}", "mend the value") from error
    return config, origins


def _assign(config: DictConfig, overrides: list[Override], origins: dict[KeyPath, str]) -> None:
    for override in overrides:
        where = f"override {override.input_line!r}"
        try:
            # Hydra's own rules for a.b=c, +a.b=c and ~a.b; it has no public name for them.
            ConfigLoaderImpl._apply_overrides_to_config([override], config)  # noqa: SLF001
        except (HydraException, OmegaConfBaseException) as error:
            problem = str(error).splitlines()[0]
            raise BadRecipeError(f"{where}: {problem}", "write section.key=value") from error
        keys = tuple(override.key_or_group.replace("/", ".").split("."))
        for below in [known for known in origins if known[: len(keys)] == keys]:
            del origins[below]
        origins[keys] = where


def _origin(origins: dict[KeyPath, str], keys: KeyPath, name: str) -> str:
    for length in range(len(keys), 0, -1):
        if keys[:length] in origins:
            return origins[keys[:length]]
    for known, where in origins.items():
        if known[: len(keys)] == keys:
            return where
    return f"recipes/{name}.yaml"


def _validate(raw: dict[Any, Any], origins: dict[KeyPath, str], name: str) -> Recipe:
    try:
        # Through JSON, where strict mode knows lists as tuples and integers as floats.
        return Recipe.model_validate_json(json.dumps(raw, allow_nan=True))
    except ValidationError as error:
        rank = {"extra_forbidden": 0, "missing": 1}
        problems = sorted(error.errors(), key=lambda problem: rank.get(problem["type"], 2))
        raise _explain(dict(problems[0]), raw, origins, name) from error
    except (TypeError, ValueError) as error:
        raise BadRecipeError(f"recipes/{name}.yaml: {error}", "use plain YAML values") from error


def _explain(
    problem: dict[str, Any], raw: dict[Any, Any], origins: dict[KeyPath, str], name: str
) -> BadRecipeError:
    keys = _keys(problem["loc"], raw, missing=problem["type"] == "missing")
    where = f"{_origin(origins, keys, name)}: {'.'.join(keys) or 'recipe'}"
    parent = section_at(Recipe, keys[:-1], raw)
    if problem["type"] == "extra_forbidden":
        mend = suggest(keys[-1], parent, keys[:-1]) if parent else "remove the key"
        return BadRecipeError(f"{where}: unknown key", mend)
    message = problem["msg"][0].lower() + problem["msg"][1:]
    given = problem.get("input")
    shown = (
        ""
        if problem["type"] == "missing" or isinstance(given, dict | list)
        else f" (given {given!r})"
    )
    field = parent.model_fields.get(keys[-1]) if parent and keys else None
    mend = (field.description if field and field.description else "") or "give a valid value"
    return BadRecipeError(f"{where}: {message}{shown}", mend)


def _keys(loc: tuple[int | str, ...], raw: Any, *, missing: bool) -> KeyPath:
    """Pydantic's location without the tags of unions: what the person wrote."""
    keys: list[str] = []
    current = raw
    tag = None  # pydantic puts a union's tag right behind the key that holds the union
    for position, part in enumerate(loc):
        if part == tag:
            tag = None
            continue
        known, below = _descend(current, part)
        if not known and not (missing and position == len(loc) - 1):
            continue
        current = below if known else current
        tag = current.get("type") if isinstance(current, dict) else None
        keys.append(str(part))
    return tuple(keys)


def _descend(value: Any, part: int | str) -> tuple[bool, Any]:
    if isinstance(value, dict) and part in value:
        return True, value[part]
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return True, value[part]
    return False, None
