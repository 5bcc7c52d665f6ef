"""A key that a section of this kind does not have but one of another ``type`` or ``method`` has.

Either the key is wrong there, or whoever chose another type left keys of the old one behind: a
group wrote them and values merge key by key. Which of the two it is shows in where each was
written. Knows of the recipe what the schema says and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slmcompile.console.errors import BadRecipeError
from slmcompile.console.printable import shortened
from slmcompile.recipe.members import ADAPTERS
from slmcompile.recipe.names import kinds_at, section_at
from slmcompile.recipe.overrides import is_override
from slmcompile.recipe.schema import Recipe
from slmcompile.recipe.yaml_file import KeyPath


def key_of_another_kind(
    keys: KeyPath, raw: Any, origin: Callable[[KeyPath], str]
) -> BadRecipeError | None:
    """The error for an unknown key that another kind of its section has; None if none has it.

    Args:
        keys: where the key lies.
        raw: the composed values.
        origin: ``file:line`` of a key path.
    """
    at, name = keys[:-1], keys[-1]
    chooser, kinds = kinds_at(at, raw)
    owners = [tag for tag, kind in kinds.items() if name in kind.model_fields]
    if not chooser or not owners:
        return None
    section, tag = _section(raw, at), (*at, chooser)
    model = section_at(Recipe, at, raw)
    chosen = next((each for each, kind in kinds.items() if kind is model), "")
    # An adapter has sections of the recipe's own kinds, below its name.
    group = at[2] if at[0] == ADAPTERS and len(at) > 2 else at[0]
    belongs = f"the {chooser} {' or '.join(owners)}"
    # A type is written out in a group of one's own; methods come as groups of their names.
    by_group = chooser != "type"
    if not _left_behind(keys, tag, origin):
        choice = f", or choose {_choice(origin(keys), group, owners[0])}" if by_group else ""
        said = (
            f"the {chooser} {chosen} does not read it"
            if by_group
            else (f"unknown key for the type {chosen}")
        )
        return BadRecipeError(
            f"{origin(keys)}: {'.'.join(keys)}: {said} ({origin(tag)})",
            f"remove it{choice}" if by_group else f"remove it; it belongs to {belongs}",
        )
    left = [key for key in section if model and key not in model.model_fields]
    deletion = f"add {_deletions(at, left)}" if is_override(origin(tag)) else ""
    if by_group:
        choice = f"choose {_choice(origin(tag), group, chosen)} instead"
        mend = f"{choice}, or {deletion}" if deletion else choice
    else:
        mend = deletion or (
            f"write a {group} group with the type {chosen}, conf/{group}/NAME.yaml, and choose"
            f" `- {group}: NAME` under `defaults`"
        )
    return BadRecipeError(
        f"{origin(tag)}: {'.'.join(tag)}: {chosen} does not read {name}, which {origin(keys)} gives"
        f" for {belongs}",
        mend,
    )


def _left_behind(keys: KeyPath, tag: KeyPath, origin: Callable[[KeyPath], str]) -> bool:
    """Whether the type was changed over a key that was already there, and not the key added."""
    key_from, tag_from = _file(origin(keys)), _file(origin(tag))
    if key_from == tag_from or is_override(key_from):
        return False
    # The last file that wrote in a section is the section's origin.
    return is_override(tag_from) or tag_from == _file(origin(tag[:-1]))


def _file(where: str) -> str:
    return where if is_override(where) else where.rpartition(":")[0]


def _choice(where: str, group: str, name: str) -> str:
    return f"{group}={name}" if is_override(where) else f"`- {group}: {name}` in `defaults`"


def _deletions(at: KeyPath, names: list[str]) -> str:
    # In quotes, as a shell may take the tilde for a home folder.
    return " ".join(f"'~{'.'.join((*at, shortened(name)))}'" for name in names[:16])


def _section(raw: Any, at: KeyPath) -> Mapping[str, Any]:
    for key in at:
        raw = raw[key]
    return dict(raw)
