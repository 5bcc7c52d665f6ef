"""``plan --deep``: what only the tokenizer, all rows or the built model can tell, before a run.

A child process with limits does the work (``deep_child``); the project is read and not written.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.data.report_facts import DataFacts
from slmcompile.facts.context import CheckContext
from slmcompile.machine.process import python_module
from slmcompile.sources import DATA_SOURCES

REFUTED_ALREADY = "the rows and the model, because a check refutes the recipe already"

CPU_SECONDS = 300
MEMORY_BYTES = 8 << 30
"""Address space, of which torch takes about 3 GB."""

_WALL_SECONDS = 900
_KEY = re.compile(r"data(\.[a-z_0-9]+)*")


def deepened(context: CheckContext) -> CheckContext:
    """The context with the facts that a child process brought.

    Raises:
        SlmcompileError: what the ``data`` stage would end with, and its exit code.
    """
    if context.plan is None or context.model is None:
        return replace(context, deep=f"rows and model, before {context.base_stage} has run")
    root, model = context.project.root, context.model
    unread = context.data is None
    fetched = any(DATA_SOURCES[p.source.type].fetches for p in context.recipe.data.parts)
    data = context.plan.stage("data").config if unread and not fetched else None
    request: dict[str, Any] = {
        "project": str(root),
        "base": str(root / model.where),
        "data": data,
        "roots": context.policy.linked_roots,
    }
    request |= {"cpu_seconds": CPU_SECONDS, "memory_bytes": MEMORY_BYTES}
    answer, failed = _ask_child(request)
    if answer is None:
        return replace(context, deep=failed)
    if answer["error"]:
        error = answer["error"]
        what = _placed(context, error["what"])
        raise SlmcompileError(what, error["hint"], code=Exit(error["code"]))
    notes = []
    if unread and fetched:
        notes.append("rows that the data stage alone fetches")
    if answer["modules_error"]:
        notes.append(f"the model, which transformers cannot build ({answer['modules_error']})")
    report, found = answer["data_report"], answer["modules"]
    if found is not None:
        shapes = {name: (kind, tuple(shape)) for name, (kind, shape) in found.items()}
        model = replace(model, modules=shapes)
    rows = DataFacts(report) if report is not None else context.data
    return replace(context, model=model, data=rows, deep="; ".join(notes))


def _placed(context: CheckContext, what: str) -> str:
    """A stage's message, which knows no recipe's lines, with those of the key it begins with."""
    key, colon, rest = what.partition(": ")
    return f"{context.at(key)}: {rest}" if colon and _KEY.fullmatch(key) else what


def _ask_child(request: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The child's answer, or None and why there is none."""
    with tempfile.TemporaryDirectory(prefix="slmcompile-deep-") as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        process = subprocess.Popen(
            python_module("slmcompile.facts.deep_child", str(asked), str(answer)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            _, said = process.communicate(timeout=_WALL_SECONDS)
        except subprocess.TimeoutExpired:
            said = ""
        finally:
            _end(process)
        if process.returncode == 0:
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return found, ""
    last = (said.strip().splitlines() or ["stopped"])[-1]
    if process.returncode < 0 or "MemoryError" in last or "memory" in last:
        return (
            None,
            f"rows and model, for more than {CPU_SECONDS} CPU seconds or {MEMORY_BYTES >> 30} GB",
        )
    return None, f"rows and model, which failed ({last})"


def _environment(folder: str) -> dict[str, str]:
    """No network, no caches outside ``folder``, one thread."""
    package_root = str(Path(__file__).resolve().parents[2])
    path = filter(None, [package_root, os.environ.get("PYTHONPATH", "")])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": folder,
        "HF_HOME": folder,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Buffers for many threads would use up the address space.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the child and what it started, also where this process was interrupted."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
