"""Why a defaults list could not be put together, in our words: which entry, where, and the mend.

Hydra says that something is wrong and not where. The files it was given and the overrides are
known, so the cause is looked for in them.
"""

from __future__ import annotations

from collections.abc import Iterator

from hydra.core.override_parser.types import Override

from slmcompile.console.errors import BadRecipeError
from slmcompile.console.printable import shortened
from slmcompile.recipe.defaults import Entry
from slmcompile.recipe.overrides import shown
from slmcompile.recipe.project import nearest
from slmcompile.recipe.repository import VettedRepository


def explain_defaults(
    repository: VettedRepository, name: str, overrides: list[Override], error: Exception
) -> BadRecipeError:
    """The error that a person gets for what Hydra raised."""
    missing = str(getattr(error, "missing_cfg_file", "") or "")
    if missing:
        return _no_such_file(repository, name, overrides, missing)
    entries = list(_entries(repository))
    return (
        _nothing_chosen(repository, entries)
        or _override_without_entry(repository, entries, overrides)
        or _added_twice(entries, overrides)
        or _chosen_twice(entries)
        or _nothing_to_override(entries)
        or BadRecipeError(
            f"recipes/{name}.yaml: defaults: the list cannot be put together", "make it simpler"
        )
    )


def _entries(repository: VettedRepository) -> Iterator[tuple[str, Entry]]:
    """Every group entry of every file that was read, with the group's full path."""
    for config_path, entries in repository.entries.items():
        folder = config_path.rpartition("/")[0]
        for entry in entries:
            if entry.path != "_self_":
                inside = folder and not entry.absolute
                yield (f"{folder}/{entry.path}" if inside else entry.path), entry


def _no_such_file(
    repository: VettedRepository, name: str, overrides: list[Override], missing: str
) -> BadRecipeError:
    group, _, option = missing.rpartition("/")
    where = f"recipes/{name}.yaml"
    for override in overrides:
        value = override.value()
        if override.key_or_group == group and option in (
            value if isinstance(value, list) else [value]
        ):
            where = shown(override.input_line)
            break
    else:
        for path, entry in _entries(repository):
            if (entry.is_group and path == group and option in entry.options) or (
                not entry.is_group and path == missing
            ):
                where = entry.where
    if not group:
        recipes = [known for known in repository.get_group_options("") if known != name]
        return BadRecipeError(
            f"{where}: no recipe is called {option!r}", nearest("recipes:", option, recipes)
        )
    below, _, inside = group.partition("/")
    if inside and not repository.group_exists(group) and repository.group_exists(inside):
        return BadRecipeError(
            f"{where}: no group is called {group!r}",
            f"write `/{inside}: {option}`: without the slash it is looked for below {below}",
        )
    if not repository.group_exists(group):
        return BadRecipeError(
            f"{where}: no group is called {group!r}", nearest("groups:", group, repository.groups())
        )
    options = repository.get_group_options(group)
    return BadRecipeError(
        f"{where}: no option of {group} is called {option!r}",
        nearest(f"options of {group}:", option, options),
    )


def _nothing_chosen(
    repository: VettedRepository, entries: list[tuple[str, Entry]]
) -> BadRecipeError | None:
    for path, entry in entries:
        if entry.option == "???":
            options = ", ".join(repository.get_group_options(path))
            return BadRecipeError(
                f"{entry.where}: defaults: {path}: an option must be chosen (it is ???)",
                f"add {path}=NAME; there are {options}",
            )
    return None


def _override_without_entry(
    repository: VettedRepository, entries: list[tuple[str, Entry]], overrides: list[Override]
) -> BadRecipeError | None:
    for override in overrides:
        group = override.key_or_group
        chosen = [entry for path, entry in entries if path == group]
        if override.is_add() or not repository.group_exists(group):
            continue
        if not chosen:
            doing = "remove" if override.is_delete() else "replace"
            return BadRecipeError(
                f"{shown(override.input_line)}: the recipe chooses no {group} to {doing}",
                "drop it" if override.is_delete() else f"write +{override.input_line}",
            )
        if override.is_delete() and any(isinstance(entry.option, tuple) for entry in chosen):
            keep = ", ".join(chosen[0].options)
            return BadRecipeError(
                f"{shown(override.input_line)}: ~ takes nothing out of a list of options"
                f" ({chosen[0].where})",
                f"write the list to keep, out of {group}=[{keep}]",
            )
        if (override.package or override.is_delete()) and not _takes(override, chosen):
            places = "; ".join(f"{_written(group, entry)} ({entry.where})" for entry in chosen)
            return BadRecipeError(
                f"{shown(override.input_line)}: the recipe has no such choice of {group}",
                f"name the option and package that its defaults list has: {places}",
            )
    return None


def _takes(override: Override, chosen: list[Entry]) -> bool:
    """Whether it deletes one of the choices."""
    return override.is_delete() and any(
        override.package == entry.package and override.value() in (None, "", entry.option)
        for entry in chosen
    )


def _written(group: str, entry: Entry) -> str:
    package = f"@{entry.package}" if entry.package else ""
    return f"{group}{package}: {entry.option or 'null'}"


def _added_twice(
    entries: list[tuple[str, Entry]], overrides: list[Override]
) -> BadRecipeError | None:
    where = {path: entry.where for path, entry in entries}
    for override in overrides:
        if override.is_add() and override.key_or_group in where:
            text = str(override.input_line)
            return BadRecipeError(
                f"{shown(text)}: {override.key_or_group} is chosen already "
                f"({where[override.key_or_group]})",
                f"write {shortened(text.lstrip('+'))}",
            )
    return None


def _chosen_twice(entries: list[tuple[str, Entry]]) -> BadRecipeError | None:
    seen: dict[tuple[str, str | None], Entry] = {}
    # The recipe's own file is read first; what it lists again is what a person can change.
    for path, entry in entries:
        key = (path, entry.package)
        if not entry.is_group or entry.override:
            continue
        if key in seen:
            option = " ".join(seen[key].options) or "…"
            return BadRecipeError(
                f"{seen[key].where}: defaults: {path} is chosen already ({entry.where})",
                f"write `- override /{path}: {option}` at the end of the list",
            )
        seen[key] = entry
    return None


def _nothing_to_override(entries: list[tuple[str, Entry]]) -> BadRecipeError | None:
    listed = {path for path, entry in entries if not entry.override}
    for path, entry in entries:
        if entry.override and path not in listed:
            return BadRecipeError(
                f"{entry.where}: defaults: override {path}: no file before chooses a {path}",
                "drop the word override",
            )
    return None
