"""The program in the container: one stage's, with the code of the project that it executes.

Runs as ``python -m slmcompile.stages.isolated_child DESCRIPTOR``. The first line of its standard
input is the request; each further one is a signal's number, as no signal reaches it. It is process
1 there, so that whatever it has started ends with it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.files.artifact import as_missing
from slmcompile.stages.context import Context, Result
from slmcompile.stages.messages import Sender

_MOST_PROCESSES = 4096
_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class _Stopped(BaseException):
    """Somebody outside asked for the end, and the program has no ear for it."""


def main(descriptor: str) -> int:
    """Runs the stage of the request."""
    sender = Sender(int(descriptor))
    os.set_inheritable(int(descriptor), False)
    for number in _EXITS:
        signal.signal(number, _stop)
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_listen, daemon=True).start()
    _limit(request["most_bytes"])
    try:
        sender.result(_result(request, sender))
    except SlmcompileError as error:
        sender.error(error)
    except _Stopped as stopped:
        code = _EXITS[stopped.args[0]]
        sender.error(SlmcompileError(code.name.lower(), "run the same command again", code=code))
    except Exception as error:  # noqa: BLE001 - told outside with the exit code of a bug
        where = getattr(error, "filename", None) or request["context"]["out"]
        sender.error(as_missing(error, Path(str(where))) or _bug(error))
    # What code of the project has left to be done at the end is nobody's.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _result(request: Mapping[str, Any], sender: Sender) -> Result:
    from slmcompile.machine.process import prepare_to_compute
    from slmcompile.plans.kinds import KINDS
    from slmcompile.plans.plugins import importable, joined
    from slmcompile.recipe.project import Project
    from slmcompile.stages.programs import result_of

    given = request["context"]
    folders = {role: Path(path) for role, path in given["inputs"].items()}
    places = {name: Path(given[name]) for name in ("project", "out", "scratch")}
    context = Context(**{**given, **places, "inputs": folders, "progress": sender})
    prepare_to_compute()
    project = Project(context.project)
    importable(project)
    with joined(project):
        return result_of(KINDS[request["kind"]], context)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise _Stopped(signal.Signals(number))


def _listen() -> None:
    for line in sys.stdin.buffer:
        os.kill(os.getpid(), int(line))


def _limit(most_bytes: int) -> None:
    for kind, amount in (
        (resource.RLIMIT_FSIZE, most_bytes),
        (resource.RLIMIT_NPROC, _MOST_PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (most, most))


def _bug(error: Exception) -> SlmcompileError:
    traceback.print_exception(error)
    what = f"the stage's program raised {type(error).__name__}: {error}"
    mend = "this is a bug in slmcompile, or of the code that it executed; its lines stand above"
    return SlmcompileError(what, mend, code=Exit.BUG)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
