"""One YAML file of a project, read with limits and with the line of every key.

Recipes come from people we do not know. A file is refused before it is composed if it is larger
than the limits of ``trust.md`` or holds anything that could execute: aliases, custom tags,
Hydra's ``_target_`` family, a ``hydra`` node, a resolver. Nothing here knows what the keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader  # the YAML 1.2 floats (2e-5) that Hydra reads

from slmcompile.errors import BadRecipeError, RefusedError

KeyPath = tuple[str, ...]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
INSTANTIATE_KEYS = frozenset(
    {"_target_", "_partial_", "_args_", "_convert_", "_recursive_", "_call_"}
)
_RESOLVER = re.compile(r"\$\{[^}]*:")


@dataclass(frozen=True)
class YamlFile:
    """A parsed file.

    Attributes:
        path: where it was read from.
        shown: how messages name it (relative to the project).
        content: plain dicts, lists and scalars.
        lines: line (from 1) of every key path in the file.
    """

    path: Path
    shown: str
    content: dict[str, Any]
    lines: dict[KeyPath, int]


def read_yaml(path: Path, shown: str) -> YamlFile:
    """Reads one file.

    Raises:
        BadRecipeError: not YAML, not a mapping, too large (exit 78).
        RefusedError: holds something that could execute code (exit 77).
    """
    text = _text(path, shown)
    try:
        _refuse_aliases(text, shown)
        # OmegaConf's loader extends yaml.SafeLoader and refuses duplicate keys.
        loader = get_yaml_loader()(text)
        node = loader.get_single_node()
        content = {} if node is None else loader.construct_document(node)
    except RecursionError as error:
        raise BadRecipeError(
            f"{shown}: nested deeper than {MAX_DEPTH} levels", "flatten it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise BadRecipeError(f"{shown}{at}: {problem}", "mend the YAML") from error
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise BadRecipeError(f"{shown}: not YAML: {problem}", "mend the YAML") from error
    if not isinstance(content, dict):
        raise BadRecipeError(f"{shown}:1: not a mapping of keys to values", "write `key: value`")
    lines: dict[KeyPath, int] = {}
    if node is not None:
        for count, (keys, line, value) in enumerate(_walk(node, ()), start=1):
            if count > MAX_NODES or len(keys) > MAX_DEPTH:
                raise BadRecipeError(f"{shown}:{line}: too many or too deep nodes", "split it")
            lines[keys] = line
            refuse_code(keys[-1] if keys else "", value, f"{shown}:{line}")
    return YamlFile(path, shown, content, lines)


def refuse_code(key: str, value: str | None, where: str) -> None:
    """Refuses what Hydra or OmegaConf would execute (exit 77)."""
    if key in INSTANTIATE_KEYS:
        raise RefusedError(f"{where}: {key}: recipes cannot name code to run", "remove the key")
    if value is not None and _RESOLVER.search(value):
        raise RefusedError(
            f"{where}: {key}: resolvers such as ${{oc.env:…}} are refused",
            "write the value, or refer to another key as ${section.key}",
        )


def _text(path: Path, shown: str) -> str:
    try:
        if not path.is_file():
            raise BadRecipeError(f"{shown}: not a regular file", "write a YAML file there")
        if path.stat().st_size > MAX_BYTES:
            raise BadRecipeError(f"{shown}: larger than {MAX_BYTES} bytes", "split it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadRecipeError(f"{shown}: not UTF-8", "save it as UTF-8") from error
    except OSError as error:
        raise BadRecipeError(f"{shown}: {error.strerror}", "make the file readable") from error


def _refuse_aliases(text: str, shown: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadRecipeError(f"{shown}:{line}: anchors and aliases are refused", "repeat it")
        if getattr(event, "tag", None):
            raise RefusedError(f"{shown}:{line}: YAML tags are refused", "remove the tag")


def _walk(node: yaml.Node, keys: KeyPath) -> Iterator[tuple[KeyPath, int, str | None]]:
    """Yields (key path, line from 1, scalar text or None) of every node below ``node``."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            below = (*keys, str(key_node.value))
            scalar = value.value if isinstance(value, yaml.ScalarNode) else None
            yield below, key_node.start_mark.line + 1, scalar
            yield from _walk(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            below = (*keys, str(index))
            scalar = value.value if isinstance(value, yaml.ScalarNode) else None
            yield below, value.start_mark.line + 1, scalar
            yield from _walk(value, below)
