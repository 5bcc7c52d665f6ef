"""Writes a recipe that is another recipe with other values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from slmcompile.console.errors import BadRecipeError, UsageError
from slmcompile.files.artifact import write_text
from slmcompile.recipe.compose import compose
from slmcompile.recipe.dump import dump_yaml
from slmcompile.recipe.merge import lay_over
from slmcompile.recipe.project import Project, builtin_conf
from slmcompile.recipe.schema_files import editor_line
from slmcompile.registry.scalars import ID_PATTERN


def write_recipe(project: Project, recipe: str, overrides: Sequence[str], name: str) -> Path:
    """Writes ``recipes/<name>.yaml``; the overrides must already have been found valid.

    Raises:
        UsageError: the name is not a recipe name, or is taken; or an override says what a file
            cannot, as ``~key`` and ``list.0=x`` do.
    """
    path = project.recipes / f"{name}.yaml"
    if not re.fullmatch(ID_PATTERN, name):
        raise UsageError(f"--save-as {name!r}: not a recipe name", "use a-z, 0-9, - and _")
    if path.exists():
        raise UsageError(f"--save-as: recipes/{name}.yaml exists", "choose another name")
    defaults: list[Any] = [recipe]
    values: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        groups = (project.conf / key, builtin_conf() / key)
        value: Any = override.value()
        if any(folder.is_dir() for folder in groups) and not isinstance(value, dict):
            keyword = "" if override.is_add() else "override "
            defaults.append({f"{keyword}/{key}": value})
            continue
        for section in reversed(key.split(".")):
            value = {section: value}
        lay_over(values, value)
    text = editor_line("recipes") + dump_yaml({"defaults": [*defaults, "_self_"], **values})
    write_text(path, text)
    try:
        same = compose(project, name).whole == compose(project, recipe, overrides).whole
    except BadRecipeError:
        same = False
    if not same:
        path.unlink()
        raise UsageError(
            f"--save-as {name}: no recipe file says the same as these overrides",
            "give whole lists and values; a file neither removes a key nor changes part of a list",
        )
    return path
