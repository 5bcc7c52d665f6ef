"""``generate`` and ``chat``: text in, an exported model's text out, as an application would."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile import artifact
from slmcompile.api import last_plan
from slmcompile.errors import MissingError, UsageError
from slmcompile.project import find_project, nearest

if TYPE_CHECKING:
    from slmcompile.inference.onnx_model import OnnxModel


def generate(recipe: str, target: str | None, words: Sequence[str], max_new_tokens: int) -> None:
    """Streams the answer to one text.

    Raises:
        UsageError: no such target, or a column of the prompt is not given.
        MissingError: the target was never exported here.
    """
    model, prompt = _open(recipe, target)
    _answer(model, prompt, _values(prompt, words), max_new_tokens)


def chat(recipe: str, target: str | None, max_new_tokens: int) -> None:
    """Answers line after line until the end of input; each line stands alone."""
    model, prompt = _open(recipe, target)
    if sys.stdin.isatty():
        print("A line, then Enter; Ctrl-D ends.")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            _answer(model, prompt, _values(prompt, [line]), max_new_tokens)


def _export_folder(recipe: str, target: str | None) -> Path:
    project = find_project()
    plan = last_plan(project, recipe)
    exports = {
        stage.name.removeprefix("export-"): project.root / stage.out
        for stage in plan.own.stages
        if stage.kind == "export"
    }
    name = target or next(iter(exports))
    if name not in exports:
        raise UsageError(
            f"--target {name}: {recipe} has no such target", nearest("targets:", name, [*exports])
        )
    if not exports[name].is_dir():
        raise MissingError(
            f"{recipe}: {name} was never exported here", f"run `slmcompile run {recipe}`"
        )
    artifact.read_manifest(exports[name])
    return exports[name]


def _open(recipe: str, target: str | None) -> tuple[OnnxModel, dict[str, Any]]:
    folder = _export_folder(recipe, target)
    from slmcompile.inference import onnx_model

    prompt: dict[str, Any] = json.loads((folder / "prompt.json").read_text(encoding="utf-8"))
    return onnx_model.load(folder), prompt


def _values(prompt: dict[str, Any], words: Sequence[str]) -> dict[str, str]:
    """The prompt's columns: one text for a single column, ``column=value`` words for several."""
    columns: list[str] = prompt["columns"]
    pairs = dict(word.split("=", 1) for word in words if word.split("=", 1)[0] in columns)
    if len(pairs) == len(columns):
        return pairs
    if len(columns) == 1:
        return {columns[0]: " ".join(words)}
    raise UsageError(
        f"the prompt has the columns {', '.join(columns)}",
        " ".join(f'{column}="…"' for column in columns),
    )


def _answer(
    model: OnnxModel, prompt: dict[str, Any], values: dict[str, str], max_new_tokens: int
) -> None:
    from slmcompile.data.prompt import render_prompt
    from slmcompile.inference.onnx_model import stream_text

    for piece in stream_text(model, render_prompt(prompt, values), max_new_tokens):
        print(piece, end="", flush=True)
    print()
