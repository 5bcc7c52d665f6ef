"""A key that the section's ``type``, or the training's ``method``, does not have but another has.

Either the key is wrong there, or whoever chose another type left keys of the old one behind: a
group wrote them and values merge key by key. Which of the two it is shows in where each was
written. Knows of the recipe what the schema says and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from slmcompile.console.errors import BadRecipeError
from slmcompile.console.printable import shortened
from slmcompile.recipe.names import kinds_at
from slmcompile.recipe.overrides import is_override
from slmcompile.recipe.schema import SECTIONS_OF
from slmcompile.recipe.yaml_file import KeyPath


def key_of_another_type(
    keys: KeyPath, raw: Any, origin: Callable[[KeyPath], str]
) -> BadRecipeError | None:
    """The error for an unknown key that another ``type`` of its section has; None if none has it.

    Args:
        keys: where the key lies.
        raw: the composed values.
        origin: ``file:line`` of a key path.
    """
    at, name = keys[:-1], keys[-1]
    kinds = {
        str(tag): kind
        for kind in kinds_at(at, raw)
        if "type" in kind.model_fields
        for tag in get_args(kind.model_fields["type"].annotation)
    }
    owners = [tag for tag, kind in kinds.items() if name in kind.model_fields]
    if not owners:
        return None
    section, tag = _section(raw, at), (*at, "type")
    chosen = str(section["type"])
    if not _left_behind(keys, tag, origin):
        return BadRecipeError(
            f"{origin(keys)}: {'.'.join(keys)}: unknown key for the type {chosen} ({origin(tag)})",
            f"remove it; it belongs to the type {' or '.join(owners)}",
        )
    left = [key for key in section if key not in kinds[chosen].model_fields]
    group = at[0]
    return BadRecipeError(
        f"{origin(tag)}: {'.'.join(tag)}: {chosen} does not read {name}, which {origin(keys)} gives"
        f" for the type {' or '.join(owners)}",
        f"add {_deletions(at, left)}"
        if is_override(origin(tag))
        else f"write a {group} group with the type {chosen}, conf/{group}/NAME.yaml, and choose"
        f" `- {group}: NAME` under `defaults`",
    )


def section_of_another_method(
    keys: KeyPath, raw: Any, origin: Callable[[KeyPath], str]
) -> BadRecipeError:
    """The error for a section of ``train`` that its ``method`` does not read.

    Args:
        keys: where the section lies.
        raw: the composed values.
        origin: ``file:line`` of a key path.
    """
    at, name = keys[:-1], keys[-1]
    section, tag = _section(raw, at), (*at, "method")
    chosen = str(section.get("method"))
    owner = next(method for method, sections in SECTIONS_OF.items() if name in sections)
    if not _left_behind(keys, tag, origin):
        choice = _choice(origin(keys), owner)
        return BadRecipeError(
            f"{origin(keys)}: {'.'.join(keys)}: the method {chosen} does not read it"
            f" ({origin(tag)})",
            f"remove it, or choose {choice}",
        )
    every = {section for sections in SECTIONS_OF.values() for section in sections}
    left = [key for key in section if key in every - SECTIONS_OF[chosen].keys()]
    deleting = is_override(origin(tag))
    return BadRecipeError(
        f"{origin(tag)}: {'.'.join(tag)}: {chosen} does not read {name}, which {origin(keys)} gives"
        f" for the method {owner}",
        f"choose {_choice(origin(tag), chosen)} instead"
        + (f", or add {_deletions(at, left)}" if deleting else ""),
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


def _choice(where: str, method: str) -> str:
    return f"train={method}" if is_override(where) else f"`- train: {method}` in `defaults`"


def _deletions(at: KeyPath, names: list[str]) -> str:
    # In quotes, as a shell may take the tilde for a home folder.
    return " ".join(f"'~{'.'.join((*at, shortened(name)))}'" for name in names[:16])


def _section(raw: Any, at: KeyPath) -> Mapping[str, Any]:
    for key in at:
        raw = raw[key]
    return dict(raw)
