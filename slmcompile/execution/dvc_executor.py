"""Drives ``dvc repro`` for one recipe and turns its end into ours.

DVC decides what runs; we hold the recipe's lock, pass signals on and read the failed stage's
error. DVC's own chatter goes to a log file, a stage's lines to the terminal.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

from slmcompile.console.errors import (
    Exit,
    LockedError,
    MissingError,
    SlmcompileError,
    StageFailedError,
)
from slmcompile.files.revision import in_git
from slmcompile.machine.process import STARTED_BY, mark, python_module, signal_on_parent_death
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.state import dvc_lock
from slmcompile.state.emit import dvc_yaml_path
from slmcompile.state.failure import clear_failure, read_failure
from slmcompile.state.writable import missing_of

_KEPT_LINES = 200
_EXITED = re.compile(r"exited with (\d+)$")
_PATIENCE = 3600.0
"""Seconds to wait for another recipe's run that holds a shared stage."""


class DvcExecutor:
    """``dvc repro`` in a process of its own: an ``Executor``.

    Args:
        project: whose stages are run.
        progress: a real file that stages tell what they do; standard output by default.
    """

    def __init__(self, project: Project, progress: IO[str] | None = None) -> None:
        self._project = project
        self._progress = progress
        self._ready: subprocess.Popen[str] | None = None

    def __enter__(self) -> None:
        self._ready = self._started()

    def __exit__(self, *_: object) -> None:
        if self._ready is not None:
            with _ended(self._ready):
                self._ready = None

    def check(self) -> None:
        """Raises MissingError where the project is not under git and DVC (exit 69)."""
        root = self._project.root
        if not (root / ".dvc").is_dir() or not in_git(root):
            raise MissingError(
                f"{root}: not under git and DVC",
                "run `slmcompile init` (or `git init` and `dvc init`)",
            )

    def reproduce(self, plan: Plan, only: Sequence[Stage] | None = None) -> None:
        """As ``Executor`` says, by ``dvc repro`` on the recipe's pipeline."""
        project = self._project
        for stage in plan.stages():
            clear_failure(project, stage.address)
        log = project.scratch / "logs" / f"{plan.recipe}.log"
        status, chatter = self._run(plan, only, log)
        # Another run may hold a stage that both share; DVC waits for its own lock, not for that
        # one. And one that was killed may have left this one's claims in pieces.
        deadline = time.monotonic() + _PATIENCE
        while status > 0 and (_busy(chatter) or dvc_lock.is_damaged(project)):
            if time.monotonic() > deadline:
                raise LockedError(f"{plan.recipe}: {_last_error(chatter)}", "stop the other run")
            time.sleep(1)
            status, chatter = self._run(plan, only, log)
        if status == 0:
            return
        for stage in plan.stages():
            failure = read_failure(project, stage.address)
            if failure is not None:
                raise failure
        if status in {130, -signal.SIGINT}:
            raise SlmcompileError("interrupted", "run again to go on", code=Exit.INTERRUPTED)
        if status in {143, -signal.SIGTERM}:
            raise SlmcompileError("terminated", "run again to go on", code=Exit.TERMINATED)
        told = _told(chatter) or missing_of(chatter)
        if told is not None:
            raise told
        raise StageFailedError(f"{plan.recipe}: {_last_error(chatter)}", f"the whole log: {log}")

    def _run(self, plan: Plan, only: Sequence[Stage] | None, log: Path) -> tuple[int, list[str]]:
        """One ``dvc repro``, by the process that is ready or by another one."""
        process, self._ready = self._ready or self._started(), None
        with _ended(process):
            dvc_lock.mend(self._project, partial(print, file=self._progress, flush=True))
            return _told_to(process, ["--wait-for-lock", "repro", *_targets(plan, only)], log)

    def _started(self) -> subprocess.Popen[str]:
        """DVC, importing itself until it is told what to do.

        It has a process group of its own, and ends undone where it is never told.
        """
        environment = os.environ | {
            # Stages are started by name; this puts ours first whatever the caller's PATH is.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "DVC_NO_ANALYTICS": "1",
            "PYTHONWARNINGS": "ignore",
            STARTED_BY: mark(os.getpid()),
        }
        return subprocess.Popen(
            python_module("slmcompile.execution.dvc_child"),
            cwd=self._project.root,
            stdin=subprocess.PIPE,
            stdout=self._progress,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
            # Runs before exec in the child; the command line starts no thread before it.
            preexec_fn=partial(signal_on_parent_death, signal.SIGTERM),  # noqa: PLW1509
        )


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a process behind the block, if it has not ended, and closes what led to it."""
    with process:
        try:
            yield
        finally:
            process.terminate()


def _targets(plan: Plan, only: Sequence[Stage] | None) -> list[str]:
    if only is None:
        return [dvc_yaml_path(plan.recipe)]
    # The stage that compiles the recipe first, so that its entry in dvc.lock keeps step.
    own = any(stage.pipeline == plan.recipe for stage in only)
    compiling = [f"{dvc_yaml_path(plan.recipe)}:plan"] if own else []
    named = [f"{dvc_yaml_path(stage.pipeline)}:{stage.name}" for stage in only]
    return ["--single-item", *compiling, *named]


def _told_to(
    process: subprocess.Popen[str], command: list[str], log: Path
) -> tuple[int, list[str]]:
    """Tells DVC its arguments and passes our signals on to it and all it starts.

    Returns its status, or minus the signal that has ended it, and the last lines it wrote to
    standard error, which also go to ``log``.
    """
    passed_on: list[int] = []
    chatter: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_keep, args=(process.stderr, log, chatter), daemon=True)
    reader.start()

    def forward(number: int, _frame: FrameType | None) -> None:
        passed_on.append(number)
        os.killpg(process.pid, number)

    previous = {
        number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with suppress(BrokenPipeError):
            print(json.dumps(command), file=process.stdin, flush=True)
        status = process.wait()
        reader.join(timeout=5)
        # DVC ends with 1 where a stage was interrupted before it could say so.
        return -passed_on[0] if status and passed_on else status, list(chatter)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _keep(stream: IO[str], log: Path, chatter: deque[str]) -> None:
    """Copies lines to memory and to a log file; a full disk must not cost us the message."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        copy = log.open("w", encoding="utf-8")
    except OSError:
        copy = None
    for line in stream:
        chatter.append(line.rstrip())
        with suppress(OSError):
            if copy:
                copy.write(line)
                copy.flush()
    with suppress(OSError):
        if copy:
            copy.close()


def _busy(chatter: list[str]) -> bool:
    """Whether DVC gave up because of another process's lock on a path (``dvc/rwlock.py``)."""
    return any("is busy" in line for line in chatter)


def _told(chatter: list[str]) -> SlmcompileError | None:
    """The error that a stage said and could not leave for us, where the disk is full for one."""
    codes = [found[1] for line in chatter if (found := _EXITED.search(line))]
    if not codes or int(codes[0]) not in {*Exit} - {Exit.BUG}:
        return None
    for what, below in zip(chatter, [*chatter[1:], ""], strict=True):
        if what.startswith("error: "):
            mend = below.removeprefix("  mend: ") if below.startswith("  mend: ") else ""
            return SlmcompileError(what.removeprefix("error: "), mend, code=Exit(int(codes[0])))
    return None


def _last_error(chatter: list[str]) -> str:
    errors = [line.split(": ", 1)[-1] for line in chatter if line.lower().startswith("error: ")]
    return errors[0] if errors else "dvc repro failed"
