"""Lays one file's values over another's, by OmegaConf's rules for plain configs.

Sections merge key by key; everything else, lists too, replaces. ``???`` says that a value is still
to be given and replaces nothing. Inputs are shared between recipes and never changed.
"""

from __future__ import annotations

from typing import Any

from slmcompile.recipe.yaml_file import KeyPath

MISSING = "???"


def lay_over(config: dict[str, Any], content: dict[str, Any], keys: KeyPath = ()) -> list[KeyPath]:
    """Lays ``content`` over ``config``, which is changed; returns paths that lost what was below.

    Args:
        config: what earlier files gave; ours to change.
        content: what this file gives.
        keys: where both lie.
    """
    lost: list[KeyPath] = []
    for key, value in content.items():
        old = config.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            lost += lay_over(old, value, (*keys, key))
            continue
        if value == MISSING and key in config:
            continue
        if isinstance(old, dict | list):
            lost.append((*keys, key))
        config[key] = own(value)
    return lost


def merged(old: Any, value: Any) -> Any:
    """A value laid over an old one that is ours to change."""
    if isinstance(value, dict) and isinstance(old, dict):
        lay_over(old, value)
        return old
    return own(value)


def own(value: Any) -> Any:
    """A copy that may be changed."""
    if isinstance(value, dict):
        return {key: own(below) for key, below in value.items()}
    if isinstance(value, list):
        return [own(below) for below in value]
    return value
