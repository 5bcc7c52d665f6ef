"""What no recipe, group or override may hold or exceed, checked before anything is made of it."""

from __future__ import annotations

import re
from typing import Any

from slmcompile.console.errors import BadRecipeError, RefusedError
from slmcompile.console.printable import shortened, shows_itself

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_KEY = 256
MAX_DIGITS = 64
MAX_INTEGER = 2**63 - 1

# What ``hydra.utils.instantiate`` reads. Its blocklist is not a security boundary, upstream says.
INSTANTIATE_KEYS = frozenset(
    {"_target_", "_partial_", "_args_", "_convert_", "_recursive_", "_call_"}
)
_HALF = re.compile("[\ud800-\udfff]")  # bytes of a command line that are no text
# `${name:…}` calls a resolver, also where the name is itself computed: `${a${b}:…}`.
_RESOLVER = re.compile(r"\$\{[^}]*[:$]|\$\{[^}]*\$\{")


def refuse_code(key: str, value: str | None, where: str) -> None:
    """Refuses what Hydra or OmegaConf would execute (exit 77); ``key`` is dotted."""
    if key.rpartition(".")[2] in INSTANTIATE_KEYS:
        raise RefusedError(f"{where}: {key}: recipes cannot name code to run", "remove the key")
    if value is not None and "${" in value and _RESOLVER.search(value):
        raise RefusedError(
            f"{where}: {key}: resolvers such as ${{oc.env:…}} and computed names are refused",
            "write the value, or refer to another key as ${section.key}",
        )


def refuse_number(value: str | float, where: str) -> None:
    """Refuses digits without end and integers that no machine word holds (exit 78)."""
    large = len(value) > MAX_DIGITS if isinstance(value, str) else False
    if large or (isinstance(value, int) and abs(value) > MAX_INTEGER):
        raise BadRecipeError(f"{where}: the number is too large", "give a smaller number")


def check_value(value: Any, where: str, *, key: str = "", depth: int = 0) -> int:
    """Checks a parsed value at any depth as a file's are checked; returns its count of nodes."""
    if depth > MAX_DEPTH:
        raise BadRecipeError(f"{where}: nested deeper than {MAX_DEPTH} levels", "flatten it")
    if isinstance(value, dict):
        count = 1
        for name, below in value.items():
            if not isinstance(name, str) or len(name) > MAX_KEY or not shows_itself(name):
                raise BadRecipeError(
                    f"{where}: the key {shortened(repr(name))} is not plain text", "use plain keys"
                )
            dotted = f"{key}.{name}" if key else name
            refuse_code(dotted, None, where)
            count += 1 + check_value(below, where, key=dotted, depth=depth + 1)
    elif isinstance(value, list):
        count = 1 + sum(check_value(below, where, key=key, depth=depth + 1) for below in value)
    else:
        count = 1
        if isinstance(value, str):
            refuse_code(key, value, where)
            if _HALF.search(value):
                raise BadRecipeError(f"{where}: {key}: not UTF-8", "write it as UTF-8")
        elif isinstance(value, int | float):
            refuse_number(value, where)
    if count > MAX_NODES:
        raise BadRecipeError(f"{where}: more than {MAX_NODES} keys and values", "split it")
    return count


def is_bounded(content: Any, depth: int = MAX_DEPTH, nodes: int = MAX_NODES) -> bool:
    """Whether JSON-like content is no deeper and has no more values than a recipe may have."""
    level = [content]
    for _ in range(depth):
        level = [
            below
            for each in level
            if isinstance(each, dict | list)
            for below in (each.values() if isinstance(each, dict) else each)
        ]
        nodes -= len(level)
        if nodes < 0:
            return False
    return not level
