"""Runs the recipes of a tree, as anybody runs a recipe, without what the job knows.

The process that runs has none of the job's variables but those listed, so no token and no
credential of a store; and code of the project runs in a container behind it.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Timer

from slmcompile.ci.outputs import disarmed
from slmcompile.ci.result import RecipeResult
from slmcompile.console.errors import Exit, UsageError
from slmcompile.console.printable import printable, shortened
from slmcompile.machine.process import python_module, signal_on_parent_death
from slmcompile.recipe.project import Project
from slmcompile.stages.isolated import SWITCH

_KEPT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *("HF_HOME", "HF_ENDPOINT", "HF_TOKEN", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
MOST_HOURS = "SLMCOMPILE_MOST_HOURS"
"""Variable of the job: hours that the run of a recipe may take."""

_MOST = 10_000.0
_LONGEST = 500
_LAST = 200
_GRACE = 60.0
"""Seconds that a command has to end by itself."""


def most_seconds(environ: Mapping[str, str]) -> float | None:
    """What a command may take; None where nobody has set it.

    Raises:
        UsageError: it is no number of hours (exit 64).
    """
    text = environ.get(MOST_HOURS, "")
    if not text:
        return None
    try:
        hours = float(text)
    except ValueError:
        hours = 0
    if not 0 < hours <= _MOST:
        raise UsageError(f"{MOST_HOURS}={line(text)}: no number of hours", "set 6 for six hours")
    return hours * 3600


def call(
    project: Project, words: Sequence[str], recipe: str, environ: Mapping[str, str]
) -> RecipeResult:
    """Calls a command of ours in a tree; what it says goes to standard output.

    Args:
        project: the tree.
        words: the command's, ``("run", recipe)``.
        recipe: whose.
        environ: the job's environment, of which little is handed on.
    """
    kept = {name: environ[name] for name in _KEPT if name in environ}
    running = subprocess.Popen(
        python_module("slmcompile", *words),
        cwd=project.root,
        env=kept | {SWITCH: "1", "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=partial(signal_on_parent_death, signal.SIGTERM),  # noqa: PLW1509
    )
    assert running.stdout is not None  # noqa: S101
    most = most_seconds(environ)
    began = time.monotonic()
    told: deque[str] = deque(maxlen=_LAST)
    with _ending(running, most):
        for said in running.stdout:
            told.append(said.rstrip())
            print(disarmed(told[-1]), flush=True)
        code = running.wait()
    if code and most and time.monotonic() - began >= most:
        return RecipeResult(
            recipe,
            int(Exit.REFUSED),
            f"took more than the {environ[MOST_HOURS]} hours that a run may take",
            f"train less, or have an owner raise {MOST_HOURS}",
        )
    if code == 0:
        return RecipeResult(recipe, 0)
    what, mend = _error(told)
    return RecipeResult(recipe, code if code > 0 else 128 - code, what, mend)


@contextmanager
def _ending(running: subprocess.Popen[str], most: float | None) -> Iterator[None]:
    """Has a command end after so many seconds, and behind the block whatever ended that.

    It is asked first, for a training to leave a checkpoint; then all of it ends.
    """
    late = [Timer(most, running.terminate), Timer(most + _GRACE, running.kill)] if most else []
    for each in late:
        each.daemon = True
        each.start()
    try:
        yield
    finally:
        for each in late:
            each.cancel()
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(_GRACE)
            finally:
                running.kill()
                running.wait()


def _error(lines: Iterable[str]) -> tuple[str, str]:
    """What a command of ours says in the end: an error and how to mend it."""
    what, mend = "", ""
    for said in lines:
        if said.startswith("error: "):
            what, mend = said.removeprefix("error: "), ""
        elif said.startswith("  mend: "):
            mend = said.removeprefix("  mend: ")
    return line(what or "ended without a word"), line(mend)


def line(text: str) -> str:
    """A text as a result may say it: one line of bounded length."""
    return shortened(printable(text), _LONGEST)
