"""A lock file's form: one file a recipe, so that two branches' additions merge, one line an entry.

It is YAML, but read here line by line: a stranger may have written it, and a half-merged file must
be named as one. Knows nothing of what an entry means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from slmcompile.console.errors import CorruptError
from slmcompile.files.artifact import write_text
from slmcompile.files.safe_read import read_regular
from slmcompile.recipe.project import Project

FOLDER = "locks"
FORMAT_VERSION = "1.0"
MAX_BYTES = 4 * 1024 * 1024
_HEADER = (
    "# Exact versions of what the recipe refers to. Written by `slmcompile lock`; commit it.\n"
    f'format_version: "{FORMAT_VERSION}"\n'
    "entries:\n"
)
_VERSION = re.compile(r'format_version: "(\d+)\.\d+"')
_ENTRY = re.compile(r'  ("(?:[^"\\]|\\.){1,8192}"): "(sha256:[0-9a-f]{64}|commit:[0-9a-f]{40})"')
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@dataclass(frozen=True)
class Lock:
    """A lock file: what each reference stood for (``sha256:…`` or ``commit:…``), by reference."""

    entries: Mapping[str, str]


def lock_name(recipe: str) -> str:
    """Project-relative path of a recipe's lock."""
    return f"{FOLDER}/{recipe}.lock"


def read_lock(project: Project, recipe: str) -> Lock | None:
    """A recipe's lock, None if it has none.

    Raises:
        CorruptError: it is not a lock file, or a merge left it in two minds (exit 74).
        RefusedError: it is a link or a device (exit 77).
    """
    name = lock_name(recipe)
    try:
        data = read_regular(project.root, name, name, MAX_BYTES)
        if data is None:
            return None
        if len(data) > MAX_BYTES:
            raise CorruptError(
                f"{name}: larger than {MAX_BYTES} bytes", "remove it and run `slmcompile lock`"
            )
        return parse_lock(data.decode(), name)
    except (UnicodeDecodeError, OSError) as error:
        raise CorruptError(f"{name}: cannot be read as text", "take the committed one") from error


def parse_lock(text: str, name: str) -> Lock:
    """Reads a lock file's text; raises as ``read_lock``."""
    entries: dict[str, str] = {}
    known = False
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{name}:{number}"
        if line.startswith(_CONFLICT):
            raise CorruptError(
                f"{where}: an unfinished merge", "keep both sides' lines, then `slmcompile lock`"
            )
        if not line.strip() or line.startswith("#") or line == "entries:":
            continue
        version = _VERSION.fullmatch(line)
        if version:
            known = version[1] == FORMAT_VERSION.split(".", maxsplit=1)[0]
            continue
        entry = _ENTRY.fullmatch(line)
        key = _text(entry[1]) if entry else None
        if entry is None or key is None or not known:
            raise CorruptError(
                f"{where}: not a line of a lock file that this version knows",
                "take the committed one, or remove it and run `slmcompile lock`",
            )
        if entries.setdefault(key, entry[2]) != entry[2]:
            raise CorruptError(
                f"{where}: {key} is locked twice, to different versions",
                "remove both lines and run `slmcompile lock`",
            )
    return Lock(entries)


def _text(quoted: str) -> str | None:
    """What stands in quotes; None if it has escapes that JSON does not know."""
    try:
        return str(json.loads(quoted))
    except ValueError:
        return None


def lock_text(entries: Mapping[str, str]) -> str:
    """The bytes of a lock file; equal entries give equal bytes."""
    lines = [f"  {json.dumps(key)}: {json.dumps(entries[key])}\n" for key in sorted(entries)]
    return _HEADER + "".join(lines)


def write_lock(project: Project, recipe: str, entries: Mapping[str, str]) -> None:
    """Writes a recipe's lock file whole."""
    write_text(project.root / lock_name(recipe), lock_text(entries))
