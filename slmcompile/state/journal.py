"""What ran on this machine: one line a finished stage, for people, tests and later estimates.

Lies in the ignored scratch folder; no stage reads it and no result depends on it. A stranger may
have committed one nevertheless, so what is read is bounded and checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmcompile.console.errors import RefusedError
from slmcompile.files.safe_read import check_inside, open_regular
from slmcompile.recipe.project import Project

_NAME = ".slmcompile/journal.jsonl"
_MOST_BYTES = 4 << 20
_MOST_LINES = 20_000
_NUMBERS = ("seconds", "cpu_seconds", "tokens", "total_parameters", "trainable_parameters")
_LARGEST = 1e18


def path(project: Project) -> Path:
    """Where it lies."""
    return project.root / _NAME


def append(project: Project, entry: dict[str, Any]) -> None:
    """Adds a line; a journal that cannot be written is not worth a failed stage."""
    file = path(project)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as stream:
            stream.write((json.dumps(entry, sort_keys=True) + "\n").encode())
    except OSError:
        return


def read(project: Project) -> Iterator[dict[str, Any]]:
    """The latest entries, in the order in which the stages ended.

    Each has a ``stage`` and ``seconds``, and its numbers are finite and not negative. Other lines,
    a torn last one for instance, are passed over.
    """
    for line in _tail(project).rsplit(b"\n", _MOST_LINES):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and _sound(entry):
            yield entry


def _tail(project: Project) -> bytes:
    """The journal's end; nothing where it is behind a link or not a file."""
    try:
        if check_inside(project.root, _NAME, _NAME) is None:
            return b""
        with os.fdopen(open_regular(str(path(project))), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _MOST_BYTES))
            return stream.read(_MOST_BYTES)
    except (OSError, RefusedError):
        return b""


def _sound(entry: dict[str, Any]) -> bool:
    numbers = [entry[name] for name in _NUMBERS if name in entry]
    plain = all(type(number) in {int, float} and 0 <= number < _LARGEST for number in numbers)
    return plain and isinstance(entry.get("stage"), str) and "seconds" in entry


def usage() -> dict[str, float]:
    """CPU seconds of this process and its children so far."""
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    return {"cpu_seconds": round(cpu, 2)}
