"""One YAML file of a project, read with limits and with the line of every key.

Recipes come from people we do not know. A file is refused while it is being read, event by event,
if it is larger than the limits of ``recipe/limits.py`` or holds anything that could execute:
aliases, custom tags, Hydra's ``_target_`` family, a resolver. Scalars mean what they mean to Hydra
(OmegaConf's loader: YAML 1.1 with ``2e-5`` a number), but what an override would read otherwise
(``yes``, octal ``010``, ``1:30`` to base 60) is refused. Nothing here knows what the keys mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from slmcompile.console.errors import BadRecipeError, RefusedError, all_of
from slmcompile.console.printable import shortened, shows_itself
from slmcompile.files.safe_read import read_regular
from slmcompile.recipe.limits import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_KEY,
    MAX_NODES,
    refuse_code,
    refuse_number,
)

KeyPath = tuple[str, ...]

# libyaml's parser where PyYAML has it (its wheels do): the same events, ten times as fast.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STR, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_BOOL, _INT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_MOST_ERRORS = 40
_PACKAGE = re.compile(r"\s*#\s*@package\s+(\S+)\s*$")


@dataclass(frozen=True)
class YamlFile:
    """A parsed file. Shared between recipes: nothing in it may be changed.

    Attributes:
        path: where it was read from.
        shown: how messages name it (relative to the project).
        content: plain dicts, lists and scalars.
        lines: line (from 1) of every key path in the file.
        package: what Hydra's ``# @package`` header says, if there is one.
        digest: SHA-256 of its bytes.
    """

    path: Path
    shown: str
    content: dict[str, Any]
    lines: dict[KeyPath, int]
    package: str | None = None
    digest: str = ""


def read_yaml(path: Path, shown: str) -> YamlFile:
    """Reads one file; raises as ``read_bytes`` and ``parse_yaml`` do."""
    return parse_yaml(read_bytes(path, shown), path, shown)


def read_bytes(path: Path, shown: str) -> bytes:
    """The bytes of one file, one more than the limit at most.

    Raises:
        BadRecipeError: there is no such file, or it cannot be read (exit 78).
        RefusedError: it is a link or a device (exit 77).
    """
    try:
        data = read_regular(path.parent, path.name, shown, MAX_BYTES)
    except OSError as error:
        raise BadRecipeError(f"{shown}: {error.strerror}", "make the file readable") from error
    if data is None:
        raise BadRecipeError(f"{shown}: not a regular file", "write a YAML file there")
    return data


def parse_yaml(data: bytes, path: Path, shown: str) -> YamlFile:
    """Parses one file's bytes.

    Raises:
        BadRecipeError: not YAML, not a mapping, over a limit (exit 78).
        RefusedError: holds something that could execute code (exit 77).
    """
    if len(data) > MAX_BYTES:
        raise BadRecipeError(f"{shown}: larger than {MAX_BYTES} bytes", "split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadRecipeError(f"{shown}:{line}: not UTF-8", "save it as UTF-8") from error
    reader = _Reader(shown)
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark else ""
        problem = shortened(" ".join(str(error.problem or error.context).split()))
        if mark and _tab_at(text, mark.line, mark.column):
            raise BadRecipeError(f"{shown}{at}: a tab", "indent with spaces") from error
        raise BadRecipeError(f"{shown}{at}: not YAML: {problem}", "mend the YAML") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadRecipeError(
            f"{shown}:{line}: not YAML: a control character", "remove it, or write it as \\x.. "
        ) from error
    if reader.errors:
        raise all_of(reader.errors)
    content = reader.root
    if not isinstance(content, dict):
        raise BadRecipeError(f"{shown}:1: not a mapping of keys to values", "write `key: value`")
    digest = hashlib.sha256(data).hexdigest()
    return YamlFile(path, shown, content, reader.lines, _package(text, shown), digest)


@dataclass
class _Reader:
    """Builds the values from parser events, so that a limit stops it before it has built much."""

    shown: str
    root: Any = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    documents: int = 0
    count: int = 0
    open: list[tuple[Any, KeyPath]] = field(default_factory=list)
    key: list[str | None] = field(default_factory=list)
    errors: list[BadRecipeError] = field(default_factory=list)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.NodeEvent):
            self._refuse(event)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise BadRecipeError(f"{self._at(event)}: a second document", "remove `---`")
        elif isinstance(event, yaml.ScalarEvent):
            if self.open and isinstance(self.open[-1][0], dict) and self.key[-1] is None:
                self._take_key(event)
            else:
                keys = self._place(event)
                self._put(self._scalar(event, keys), keys)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._take_start(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.open.pop()
            self.key.pop()

    def _scalar(self, event: yaml.ScalarEvent, keys: KeyPath) -> Any:
        try:
            return _scalar(event, self._at(event), keys)
        except BadRecipeError as error:
            self._wrong(error)
            return None

    def _wrong(self, error: BadRecipeError) -> None:
        """Notes what is wrong with one key or value and goes on, for the others."""
        self.errors.append(error)
        if len(self.errors) >= _MOST_ERRORS:
            raise all_of(self.errors)

    def _refuse(self, event: yaml.NodeEvent) -> None:
        where = self._at(event)
        if event.anchor is not None:  # an alias carries the name of its anchor
            raise BadRecipeError(f"{where}: anchors and aliases are refused", "repeat the value")
        if getattr(event, "tag", None):
            raise RefusedError(f"{where}: YAML tags are refused", "remove the tag")
        self.count += 1
        if self.count > MAX_NODES:
            raise BadRecipeError(f"{where}: more than {MAX_NODES} keys and values", "split it")

    def _take_key(self, event: yaml.ScalarEvent) -> None:
        where = self._at(event)
        key: str = event.value
        if event.implicit[0] and _tag(key) != _STR:
            raise BadRecipeError(
                f"{where}: the key {shortened(key)!r} is not text to YAML",
                "remove the merge key"
                if key == "<<"
                else f"write it in quotes: '{shortened(key)}'",
            )
        if len(key) > MAX_KEY or not shows_itself(key):
            raise BadRecipeError(
                f"{where}: the key {shortened(key)!r} is too long or holds hidden characters",
                "write it with letters, digits, - and _",
            )
        container, keys = self.open[-1]
        below = (*keys, key)
        if key in container:
            self._wrong(
                BadRecipeError(
                    f"{where}: {'.'.join((*keys, key))}: duplicate key, first given on line "
                    f"{self.lines[below]}",
                    "drop one of the two",
                )
            )
        refuse_code(".".join((*keys, key)), None, where)
        self.key[-1] = key
        self.lines[below] = _line(event)

    def _take_start(self, event: yaml.CollectionStartEvent) -> None:
        if self.open and isinstance(self.open[-1][0], dict) and self.key[-1] is None:
            raise BadRecipeError(f"{self._at(event)}: a key is not text", "write `key: value`")
        if len(self.open) >= MAX_DEPTH:
            raise BadRecipeError(
                f"{self._at(event)}: nested deeper than {MAX_DEPTH} levels", "flatten it"
            )
        container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        keys = self._place(event)
        self._put(container, keys)
        self.open.append((container, keys))
        self.key.append(None)

    def _place(self, event: yaml.Event) -> KeyPath:
        if not self.open:
            return ()
        container, keys = self.open[-1]
        if isinstance(container, dict):
            return (*keys, str(self.key[-1]))
        below = (*keys, str(len(container)))
        self.lines[below] = _line(event)
        return below

    def _put(self, value: Any, keys: KeyPath) -> None:
        if not self.open:
            # An empty document is an empty recipe.
            self.root = {} if value is None else value
            return
        container = self.open[-1][0]
        if isinstance(container, dict):
            container[keys[-1]] = value
            self.key[-1] = None
        else:
            container.append(value)

    def _at(self, event: yaml.Event) -> str:
        return f"{self.shown}:{_line(event)}"


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _tab_at(text: str, line: int, column: int) -> bool:
    """Whether a line is indented with a tab before a column."""
    lines = text.splitlines()
    return line < len(lines) and lines[line][: column + 1].strip(" ").startswith("\t")


def _scalar(event: yaml.ScalarEvent, where: str, keys: KeyPath) -> Any:
    text: str = event.value
    shown = ".".join(keys)
    tag = _tag(text) if event.implicit[0] else _STR
    if tag == _NULL:
        return None
    if tag == _BOOL:
        truth: bool = _constructor().bool_values[text.lower()]
        if text.lower() not in {"true", "false"}:
            raise _ambiguous(f"{where}: {shown}: {text} is not true or false", truth, text)
        return truth
    if tag in {_INT, _FLOAT}:
        refuse_number(text, f"{where}: {shown}")
        build = _constructor()
        node = yaml.ScalarNode(tag, text)
        value = build.construct_yaml_int(node) if tag == _INT else build.construct_yaml_float(node)
        refuse_number(value, f"{where}: {shown}")
        if ":" in text or (tag == _INT and not _DECIMAL.fullmatch(text)):
            raise _ambiguous(f"{where}: {shown}: {text} is not a decimal number", value, text)
        return value
    refuse_code(shown, text, where)
    return text


def _ambiguous(what: str, value: float, text: str) -> BadRecipeError:
    """For what YAML 1.1 reads in a way that an override does not."""
    meant = json.dumps(value)
    return BadRecipeError(
        f"{what} (YAML 1.1 reads {meant})", f"write {meant}, or '{text}' in quotes if it is text"
    )


@cache
def _constructor() -> Any:
    """OmegaConf's loader with nothing to load: its rules for plain scalars are Hydra's."""
    return get_yaml_loader()("")


def _tag(text: str) -> str:
    if len(text) > MAX_KEY:
        return _STR if not text.replace("_", "").lstrip("+-").isdigit() else _INT
    tag = _constructor().resolve(yaml.ScalarNode, text, (True, False))
    return str(tag)


def _package(text: str, shown: str) -> str | None:
    """The ``# @package`` header among the comment lines at the top."""
    for number, line in _top_comments(text):
        found = _PACKAGE.match(line)
        if found:
            package = found[1]
            if re.fullmatch(r"[A-Za-z0-9_.-]{0,128}", package) and "hydra" not in package.split(
                "."
            ):
                return package
            raise RefusedError(
                f"{shown}:{number}: @package {shortened(package)} leaves the recipe",
                "remove the header",
            )
    return None


def _top_comments(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("#"):
            yield number, stripped
        elif stripped:
            return
