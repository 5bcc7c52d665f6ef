"""The lock file's form: one sorted line an entry, so that two branches' additions merge.

It is YAML, but read here line by line: a stranger may have written it, and a half-merged file must
be named as one. Knows nothing of what an entry means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from slmcompile.artifact import write_text
from slmcompile.errors import CorruptError
from slmcompile.project import Project

NAME = "slmcompile.lock"
FORMAT_VERSION = "1.0"
MAX_BYTES = 4 * 1024 * 1024
_HEADER = (
    "# Exact versions of what the recipes refer to. Written by `slmcompile lock`; commit it.\n"
    f'format_version: "{FORMAT_VERSION}"\n'
    "entries:\n"
)
_VERSION = re.compile(r'format_version: "(\d+)\.\d+"')
_ENTRY = re.compile(r'  ("(?:[^"\\]|\\.)+"): "(sha256:[0-9a-f]{64}|commit:[0-9a-f]{40})"')
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@dataclass(frozen=True)
class Lock:
    """A lock file: what each reference stood for (``sha256:…`` or ``commit:…``), by reference."""

    entries: Mapping[str, str]


def read_lock(project: Project) -> Lock | None:
    """The project's lock, None if it has none.

    Raises:
        CorruptError: it is not a lock file, or a merge left it in two minds (exit 74).
    """
    path = project.root / NAME
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise CorruptError(f"{NAME}: larger than {MAX_BYTES} bytes", "run `slmcompile lock` anew")
    try:
        return parse_lock(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, OSError) as error:
        raise CorruptError(f"{NAME}: cannot be read as text", "take the committed one") from error


def parse_lock(text: str) -> Lock:
    """Reads a lock file's text; raises as ``read_lock``."""
    entries: dict[str, str] = {}
    known = False
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{NAME}:{number}"
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
        if entry is None or not known:
            raise CorruptError(
                f"{where}: not a line of a lock file that this version knows",
                "take the committed one, or remove it and run `slmcompile lock`",
            )
        key, value = str(json.loads(entry[1])), entry[2]
        if entries.setdefault(key, value) != value:
            raise CorruptError(
                f"{where}: {key} is locked twice, to different versions",
                "remove both lines and run `slmcompile lock`",
            )
    return Lock(entries)


def lock_text(entries: Mapping[str, str]) -> str:
    """The bytes of a lock file; equal entries give equal bytes."""
    lines = [f"  {json.dumps(key)}: {json.dumps(entries[key])}\n" for key in sorted(entries)]
    return _HEADER + "".join(lines)


def write_lock(project: Project, entries: Mapping[str, str]) -> None:
    """Writes the lock file whole."""
    write_text(project.root / NAME, lock_text(entries))
