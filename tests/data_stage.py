"""Rows, configurations and runs that the tests of the data stage share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmcompile.console.progress import Silent
from slmcompile.data.prepare import prepare
from slmcompile.data.store import Row, read_split
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS

TEXT = {"type": "text", "prompt": "{text} = ", "completion": "{answer}"}
CHAT = {"type": "chat", "user": "{text}", "assistant": "{answer}"}
DEVICES = [f"{room} {thing}" for room in ("kitchen", "office", "hall") for thing in range(20)]


class Said(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def rows() -> list[dict[str, Any]]:
    return [
        {"text": f"turn {how} the {device}", "answer": {"intent": how, "name": device}}
        for how in ("on", "off")
        for device in DEVICES
    ]


def write_jsonl(folder: Path, values: list[Any], name: str = "rows.jsonl") -> str:
    folder.mkdir(exist_ok=True)
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def make_config(**changes: Any) -> Data:
    values = {
        "name": "test",
        "task": "extraction",
        "source": {"type": "file", "path": "rows.jsonl"},
        "template": TEXT,
        "label": "intent",
    }
    return Data.model_validate_json(json.dumps(values | changes))


class Prepared:
    """One run of the stage's work, and what it wrote."""

    def __init__(self, tmp_path: Path, config: Data, base: Path, out: str = "out") -> None:
        self.folder = tmp_path / out
        self.folder.mkdir()
        self.progress = Said()
        self.info = prepare(config, tmp_path / "project", base, self.folder, self.progress)
        self.report = json.loads((self.folder / "data_report.json").read_text())
        self.prompt = json.loads((self.folder / "prompt.json").read_text())
        self.splits = {name: read_split(self.folder, name) for name in SPLITS}

    @property
    def rows(self) -> list[Row]:
        return [row for split in self.splits.values() for row in split]
