"""What ran on this machine: one line a finished stage, for people, tests and later estimates.

Lies in the ignored scratch folder; no stage reads it and no result depends on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmcompile.project import Project


def path(project: Project) -> Path:
    """Where it lies."""
    return project.scratch / "journal.jsonl"


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
    """Entries in the order in which the stages ended; a torn last line is passed over."""
    file = path(project)
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def usage() -> dict[str, float]:
    """CPU seconds of this process and its children so far."""
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    return {"cpu_seconds": round(cpu, 2)}
