"""TensorBoard event files. Needs the ``tensorboard`` package; no server has to run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.files.artifact import sha256_file
from slmcompile.tracking.protocol import TrackedRun


def _verbatim(text: str) -> str:
    """Text as a Markdown code block (by indentation), since TensorBoard renders Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)


class TensorboardTracker:
    """Writes one run into its folder; a resumed run adds a file and shows as one curve."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # The package is typed in part only: its methods carry no annotations.
        self._writer: Any = SummaryWriter(log_dir=str(run.folder))
        facts = {"name": run.name, "group": run.group, "job_type": run.job_type}
        self._text("run", facts)
        self._text("config", run.config)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar a value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A text panel with one JSON object a row."""
        lines = [
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows
        ]
        self._writer.add_text(name, _verbatim("\n".join(lines)))

    def summary(self, values: Mapping[str, Any]) -> None:
        """All values as text, the numbers as scalars ``summary/…`` too."""
        for name, value in _numbers(values, "summary"):
            self._writer.add_scalar(name, value)
        self._text("summary", values)

    def artifact(self, name: str, kind: str, manifest_path: Path) -> None:
        """A text panel with the hash of the manifest."""
        digest = sha256_file(manifest_path)
        self._text(f"artifact/{name}", {"kind": kind, "manifest_sha256": digest})

    def finish(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()

    def _text(self, name: str, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        self._writer.add_text(name, _verbatim(text))
