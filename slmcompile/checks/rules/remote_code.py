"""Check 28: a base model is data alone. Read from file names and JSON; nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slmcompile.base.layout import MAX_CONFIG, refuse_unsafe, weight_headers
from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.facts.context import CheckContext
from slmcompile.files.safe_read import read_json
from slmcompile.sources import MODEL_SOURCES

_MAX_CONFIGS = 2 * MAX_CONFIG
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "custom_generate"})
"""Keys by which transformers takes code from a model's folder."""


@check(
    28,
    "no-remote-code",
    "loading the model runs code that came with its weights",
    needs=("C", "H"),
    code=Exit.REFUSED,
)
def no_remote_code(context: CheckContext) -> Verdict:
    """No configuration asks for code (``auto_map``), and there are weights that are no pickles."""
    source = context.recipe.model.source
    entry = MODEL_SOURCES[source.type]
    key = entry.folder
    if key and context.plan is not None:
        path = getattr(source, key)
        folder = context.project.root / path
        verdict = _judged(_names(folder), _configurations(folder), path, context)
        read = verdict.outcome == "refuted" or context.model is not None
        return verdict if read else _headers(folder, verdict, context)
    if entry.made_here:
        return proved("made here, from a configuration of ours")
    if context.model is None:
        return needs_probe(context.base_stage, "the model's files are not here yet")
    configurations = {
        "config.json": context.model.config,
        "generation_config.json": context.model.generation,
        "tokenizer_config.json": context.model.tokenizer,
    }
    return _judged(context.model.files, configurations, context.model.where, context)


def _headers(folder: Path, verdict: Verdict, context: CheckContext) -> Verdict:
    """The verdict, unless the weights' headers lie or their index leads out of the folder."""
    try:
        weight_headers(folder, context.project.shown(folder))
    except SlmcompileError as error:
        return refuted(error.what, error.mend, context.at("model.source"), error.code)
    return verdict


def _judged(
    names: tuple[str, ...],
    configurations: Mapping[str, Any],
    folder: str,
    context: CheckContext,
) -> Verdict:
    where = context.at("model.source")
    for name, content in configurations.items():
        for key in _keys(content):
            if key in _CODE_KEYS:
                return refuted(
                    f"{folder}/{name}: {key} asks for code from the model's folder to be run",
                    "name a model that transformers supports by itself",
                    where,
                )
        if content is None:
            return refuted(
                f"{folder}/{name}: not a JSON object of a reasonable size",
                "put the model's own file there",
                where,
                Exit.CORRUPT,
            )
    try:
        refuse_unsafe(list(names), folder)
    except SlmcompileError as error:
        return refuted(error.what, error.mend, where, error.code)
    weights = sum(name.endswith(".safetensors") for name in names)
    left = sum(name.endswith((".py", ".so")) for name in names)
    behind = f"; {left} files of code are left behind" if left else ""
    return proved(f"{weights} safetensors, no auto_map in {len(configurations)} files{behind}")


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()


def _configurations(folder: Path) -> dict[str, Any]:
    """Every ``*config*.json`` and its content; None where it is not a JSON object, or too much."""
    found: dict[str, Any] = {}
    left = _MAX_CONFIGS
    for path in sorted(folder.glob("*config*.json")) if folder.is_dir() else ():
        content = read_json(folder, path.name, min(left, MAX_CONFIG))
        found[path.name] = content if isinstance(content, dict) else None
        left -= path.lstat().st_size
    return found


def _keys(value: Any) -> Iterator[str]:
    """Every key of a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, Mapping):
            yield from (str(key) for key in current)
            waiting += current.values()
        elif isinstance(current, list):
            waiting += current
