"""A recipe and its groups, composed by Hydra and validated into a typed ``Recipe``.

Hydra decides which files take part and in which order (its defaults list) and parses overrides.
Every file is read by us before Hydra hears of it, so that every key keeps its file and line and
nothing in them can execute. ``@hydra.main``, ``hydra.utils.instantiate``, the ``hydra`` config
node, plugin discovery and OmegaConf's resolvers are never involved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra.version
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from packaging.version import Version

from slmcompile.console.errors import BadRecipeError, RefusedError
from slmcompile.recipe.continued import continued
from slmcompile.recipe.interpolation import Resolution
from slmcompile.recipe.members import origins_of, recipes
from slmcompile.recipe.merge import lay_over
from slmcompile.recipe.overrides import (
    apply_override,
    check_groups,
    parse_overrides,
    refuse_twice,
    shown,
)
from slmcompile.recipe.policy_keys import refuse_policy
from slmcompile.recipe.project import Project
from slmcompile.recipe.repository import Answers, VettedRepository
from slmcompile.recipe.schema import Data, Recipe
from slmcompile.recipe.taken import lay_in, named_by
from slmcompile.recipe.unknown_default import explain_defaults
from slmcompile.recipe.validation import validate
from slmcompile.recipe.yaml_file import KeyPath, YamlFile

_HYDRA_BEHAVIOUR = Version("1.3")


@dataclass(frozen=True)
class Composed:
    """A validated recipe and what it was made from.

    Attributes:
        name: the recipe's name.
        whole: the typed recipe, defaults materialised.
        member: whose view it is, in a recipe with adapters; empty for all of it.
        files: the contributing files, in the order in which they were merged.
        overrides: Hydra overrides in the order given.
        origins: where each key path got its value, as messages show it (``file:line``).
        answers: what was asked of the files; as long as it holds, so does the composition.
        earlier: the recipe that its training goes on from, without overrides.
        taken: the recipes whose adapters are taken as they are, by what they are called here.
    """

    name: str
    whole: Recipe
    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    origins: dict[KeyPath, str]
    answers: Answers
    member: str = ""
    earlier: Composed | None = None
    taken: Mapping[str, Composed] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The recipe, of one data set.

        Raises:
            ValueError: there are several, each adapter's.
        """
        if self.whole.adapters:
            raise ValueError(f"{self.name} has adapters; ask each of `members`")
        return self.whole

    @property
    def members(self) -> dict[str, Composed]:
        """A view for each adapter, as a recipe of its own; of a plain recipe itself, unnamed."""
        if not self.whole.adapters:
            return {"": self}
        return {
            name: replace(
                self,
                whole=recipe,
                origins=origins_of(self.origins, self.whole, name),
                member=name,
                earlier=self.taken[name].earlier if name in self.taken else None,
            )
            for name, recipe in recipes(self.whole).items()
        }

    def with_data(self, data: Mapping[str, Data]) -> Composed:
        """With another data section of each member, which is of the same meaning."""
        if not self.whole.adapters:
            return replace(self, whole=self.whole.model_copy(update={"data": data[""]}))
        adapters = {
            name: adapter.model_copy(update={"data": data[name]})
            for name, adapter in self.whole.adapters.items()
        }
        return replace(self, whole=self.whole.model_copy(update={"adapters": adapters}))

    def origin(self, keys: KeyPath) -> str:
        """``file:line`` of a key, else of what lies below it, else of the section above it."""
        return _origin(self.origins, self.name, keys)


def compose(
    project: Project, name: str, overrides: Sequence[str] = (), *, above: Sequence[str] = ()
) -> Composed:
    """Composes and validates ``recipes/<name>.yaml`` with ``overrides`` (``a.b=c``).

    ``above`` are recipes that go on from this one, or take its adapter.

    Raises:
        BadRecipeError: unknown key, wrong type, missing group, broken YAML (exit 78).
        RefusedError: something that could execute code or leave the project (exit 77).
    """
    project.recipe_file(name)
    repository = VettedRepository(project)
    first = repository.file(name)
    if first is None:
        raise BadRecipeError(f"recipes/{name}.yaml: not a regular file", "write a YAML file there")
    parsed = parse_overrides(overrides)
    check_groups(parsed, repository.group_exists)
    refuse_twice(parsed, repository.group_exists)
    defaults, assignments = _defaults_list(repository, name, parsed)
    files = [(default, _file(repository, default)) for default in defaults if default.config_path]
    config, origins = _merge(files)
    for override in assignments:
        apply_override(config, override, origins)
    for override in parsed:
        # What is missing then is missing because of it.
        if override.is_delete() or override.value() == []:
            origins.setdefault((override.key_or_group,), shown(override.input_line))
    origin = partial(_origin, origins, name)
    resolution = Resolution(config, origin)
    values = resolution.resolve()
    names = (*above, name)
    taken = {
        member: compose(project, named, above=names)
        for member, named in named_by(project, values, names, origin).items()
    }
    lay_in(values, origins, taken)
    try:
        recipe = validate(values, origin, resolution.through, repository.get_group_options)
    except BadRecipeError as error:
        raise _with_plugins(project, error) from error
    used = dict.fromkeys(file.path for _, file in files)
    named = continued(project, recipe, names, origin)
    earlier = compose(project, named, above=names) if named else None
    for other in (*taken.values(), *([earlier] if earlier else [])):
        used |= dict.fromkeys(other.files)
    return Composed(
        name,
        recipe,
        tuple(used),
        tuple(overrides),
        origins,
        repository.answers,
        earlier=earlier,
        taken=taken,
    )


def _with_plugins(project: Project, error: BadRecipeError) -> BadRecipeError:
    """The error, and which plug-ins might have brought the metric that there is not."""
    from slmcompile.recipe.policy import FILE, plugins_not_named

    others = plugins_not_named(project) if re.search(r"eval\.metrics|gates", error.what) else []
    if not others:
        return error
    mend = f"{error.mend}; or let plugins of {FILE} name {' or '.join(others)}"
    return BadRecipeError(error.what, mend, also=error.also)


def _defaults_list(
    repository: VettedRepository, name: str, overrides: list[Override]
) -> tuple[list[ResultDefault], list[Override]]:
    # Hydra keeps the behaviour it shall have in a global; other users of Hydra get theirs back.
    behaviour = hydra.version.VersionBase.instance()
    before = behaviour.getbase()
    behaviour.setbase(_HYDRA_BEHAVIOUR)
    try:
        result = create_defaults_list(
            repo=repository,
            config_name=name,
            overrides_list=overrides,
            prepend_hydra=False,
            skip_missing=False,
        )
    except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
        raise explain_defaults(repository, name, overrides, error) from error
    finally:
        behaviour.version_base = before
    return list(result.defaults), list(result.config_overrides)


def _file(repository: VettedRepository, default: ResultDefault) -> YamlFile:
    file = repository.file(str(default.config_path))
    if file is None:  # Hydra lists only what it found
        raise BadRecipeError(f"conf/{default.config_path}.yaml: no such file", "write it")
    return file


def _merge(
    files: list[tuple[ResultDefault, YamlFile]],
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    config: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for default, file in files:
        content: dict[str, Any] = {k: v for k, v in file.content.items() if k != "defaults"}
        package = tuple(default.package.split(".")) if default.package else ()
        if "hydra" in content or "hydra" in package:
            line = file.lines.get(("hydra",), 1)
            raise RefusedError(f"{file.shown}:{line}: hydra settings are refused", "remove them")
        refuse_policy(default.config_path, file.shown)
        for key in (*content, *package[:1]):
            refuse_policy(key, f"{file.shown}:{file.lines.get((key,), 1)}")
        for key in reversed(package):
            content = {key: content}
        for lost in lay_over(config, content):
            for below in [keys for keys in origins if keys[: len(lost)] == lost]:
                del origins[below]
        for keys, line in file.lines.items():
            if keys[0] != "defaults":
                origins[package + keys] = f"{file.shown}:{line}"
    return config, origins


def _origin(origins: dict[KeyPath, str], name: str, keys: KeyPath) -> str:
    if keys in origins:
        return origins[keys]
    for known, where in origins.items():  # a section that an override made has none of its own
        if known[: len(keys)] == keys:
            return where
    for length in range(len(keys) - 1, 0, -1):
        if keys[:length] in origins:
            return origins[keys[:length]]
    return f"recipes/{name}.yaml"
