"""Runs one command as a user would, under limits, and reads off when and how it ended.

A message is looked for in the lines that the control did not print.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Nothing may ask a hub or report to anybody; one thread suffices for a tiny model.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "DO_NOT_TRACK": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}

_CHANGES = re.compile(r"0x[0-9a-f]+|[0-9a-f]{16,}|\d+")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_EXCEPTION = re.compile(r"^(?:\[\w+\]: ?)?[\w.]*(?:Error|Exception|Interrupt|Undefined)\b")
_COMPLAINT = re.compile(
    r"error|fail|warn|ignor|unrecogni|unexpected|drop|skip|invalid", re.IGNORECASE
)


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative for a signal, ``None`` where its time ran out.
        seconds: from its start to its end.
        output: standard output and error as they came, without colours.
    """

    code: int | None
    seconds: float
    output: str


def run(
    words: list[str], folder: Path, extra: Mapping[str, str], memory: int, timeout: float
) -> Ended:
    """Runs a program in ``folder``.

    Args:
        words: the program and its arguments.
        folder: where it runs.
        extra: environment variables, ``PATH`` with the tool's own programs first among them.
        memory: bytes of private memory that each of its processes may have.
        timeout: seconds after which it and its children are killed.
    """
    limit = f'ulimit -d {memory // 1024}; ulimit -c 0; exec "$@"'
    start = time.monotonic()
    with subprocess.Popen(
        ["sh", "-c", limit, "sh", *words],
        cwd=folder,
        env=os.environ | QUIET | dict(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            code = None
        except BaseException:
            # It is in a session of its own: an interruption does not reach it.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Ended(code, time.monotonic() - start, _ESCAPES.sub("", output))


def failure(output: str) -> str:
    """The message a failed command ended with: its first line, and a few more where it has them."""
    lines = _lines(output)
    starts = [n for n, line in enumerate(lines) if _EXCEPTION.match(line)]
    if not starts:
        starts = [n for n, line in enumerate(lines) if re.search(r"\berror:", line)][:1]
    if not starts:
        starts = [len(lines) - 1] if lines else []
    return " / ".join(lines[starts[-1] : starts[-1] + 3]) if starts else "(no output)"


def complaint(output: str, control: str, culprit: str) -> str:
    """The first line that complains of ``culprit`` and that the control did not print, or ""."""
    known = {_CHANGES.sub("#", line) for line in _lines(control)}
    new = [line for line in _lines(output) if _CHANGES.sub("#", line) not in known]
    return next((line for line in new if _COMPLAINT.search(line) and re.search(culprit, line)), "")


def _lines(output: str) -> list[str]:
    """Lines with something on them; each state of a progress bar is a line."""
    return [line.strip() for line in output.splitlines() if line.strip()]
