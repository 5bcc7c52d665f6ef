"""A stage that executes code of the project, with its program in a container.

Outside stays what has to be believed: inputs are verified, the work is locked and named, the
manifest is written and the folder put into place by the process that runs none of that code. In the
container is no credential, network, variable, process or file but what the stage was planned with;
what comes out of it is read as data.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, RefusedError, StageFailedError, UsageError
from slmcompile.files.artifact import MANIFEST
from slmcompile.files.foreign import remove, require_plain
from slmcompile.files.safe_read import leads_out
from slmcompile.machine.contained import TooLongError, started
from slmcompile.machine.container import Container, require_containers
from slmcompile.machine.process import python_module
from slmcompile.machine.signals import StopRequest, stop_on_signals
from slmcompile.plans.kinds.kind import Kind
from slmcompile.plans.plugins import DECLARATION
from slmcompile.plans.project_code import project_code
from slmcompile.recipe.policy import FILE, load_policy
from slmcompile.recipe.project import Project
from slmcompile.stages.adapter_identity import adapter_folder, identities, sign
from slmcompile.stages.context import Context, Result
from slmcompile.stages.data_alone import require_data_alone
from slmcompile.stages.messages import Receiver, as_failed

SWITCH = "SLMCOMPILE_ISOLATE"
"""Environment variable: anything but 0 runs a stage's program apart where it is code of the
project's."""
LIMIT = "SLMCOMPILE_ISOLATE_SECONDS"
"""Environment variable: how long such a program may run; without it, as long as it wants."""
FOLDER = "isolated"
"""Of a stage's scratch folder, what a program in a container may write: nobody else reads it."""
_MOST_FILES = 10_000
_MORE_BYTES, _TIMES = 1 << 30, 8
"""What a stage may write is so much, and so many times what it reads: a checkpoint of all weights
in fp32 has them and two moments, six times a base in bf16."""
_LEFT_OUT = "track"


def is_isolated(spec: Mapping[str, Any]) -> bool:
    """Whether the program of a spec is to run in a container.

    Raises:
        MissingError: it is, and containers do not work here (exit 69).
    """
    asked = os.environ.get(SWITCH, "") not in {"", "0"} and bool(project_code(spec))
    if asked:
        _seconds()
        require_containers()
    return asked


def isolated_result_of(kind: Kind, context: Context) -> Result:
    """What a stage's program gives that runs in a container; its folders hold plain files then.

    Raises:
        SlmcompileError: what the program ends with there.
        CorruptError: it leaves or says what no stage does (exit 74).
        StageFailedError: it ends without a result, or takes too long (exit 1).
    """
    scratch = _own_scratch(context)
    inside = replace(context, scratch=scratch, runtime=_runtime(context))
    most_bytes = _MORE_BYTES + _TIMES * _bytes_read(context)
    whole = False
    try:
        result = _run(kind, inside, most_bytes)
        require_plain(context.out, _MOST_FILES, most_bytes)
        require_data_alone(context.out)
        _require_plain_scratch(scratch)
        for name, identity in identities(context).items() if kind.name == "train" else ():
            sign(context, _folder_of(context, name), identity)
        whole = True
    finally:
        if not whole:
            remove(context.out)
    remove(scratch.parent)
    return result


def _own_scratch(context: Context) -> Path:
    """A folder for checkpoints within the stage's own; adapters of a group have theirs beside it.

    What a program that was killed has left is looked at before the next one may read it.
    """
    scratch = context.scratch / FOLDER / context.scratch.name
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        _require_plain_scratch(scratch)
    except CorruptError as error:
        context.progress.say(f"set aside what an earlier run has left: {error.what}")
        scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _require_plain_scratch(scratch: Path) -> None:
    try:
        # How many checkpoints there are is the recipe's to say: each has been bounded.
        require_plain(scratch.parent, _MOST_FILES, sys.maxsize)
    except CorruptError:
        remove(scratch.parent)
        raise


def _runtime(context: Context) -> Mapping[str, Any]:
    if context.runtime.get(_LEFT_OUT, {}).get("type", "none") != "none":
        context.progress.say("is not tracked: its program runs without network")
    return {name: value for name, value in context.runtime.items() if name != _LEFT_OUT}


def _bytes_read(context: Context) -> int:
    sizes = [
        int(entry["size"]) for of in context.manifests.values() for entry in of["files"].values()
    ]
    files: list[Path] = [context.project / path for path in context.spec.get("files", ())]
    files += [path for path in context.inputs.values() if path.is_file()]
    return sum([*sizes, *(path.stat().st_size for path in files)])


def _folder_of(context: Context, name: str) -> Path:
    folder = adapter_folder(context, name)
    if not folder.is_dir():
        raise CorruptError(f"{folder}: was not written", "read the code that this stage executes")
    return folder


def _container(context: Context) -> Container:
    """The stage's inputs and project files, read-only, and its two folders."""
    _require_inside(context)
    paths = [*context.spec.get("files", ()), FILE]
    named = load_policy(Project(context.project)).plugins
    paths += [f"{plugin}/{DECLARATION}" for plugin in named if plugin.startswith("plugins/")]
    readable = {context.project / path: context.project / path for path in paths}
    for role, folder in context.inputs.items():
        names = (MANIFEST, *context.manifests[role]["files"]) if role in context.manifests else ()
        # DVC may have linked them into its cache, which is not there: each is given by itself then.
        linked = any((folder / name).is_symlink() for name in names)
        places = [folder / name for name in names] if linked else [folder]
        readable |= {place: place for place in places}
    return Container(
        readable={at: path for at, path in readable.items() if path.exists()},
        writable=(context.out, context.scratch.parent),
        hidden=(context.project,),
    )


def _require_inside(context: Context) -> None:
    """That no spec, which may be a stranger's, has what is hidden in the project given to the code.

    Raises:
        RefusedError: a path leads out of it, or to a file or folder with a dot (exit 77).
    """
    spec = context.spec
    for path in (*spec.get("files", ()), *spec["inputs"].values(), spec["out"]):
        if leads_out(path) or any(part.startswith(".") for part in path.split("/")):
            raise RefusedError(
                f"{context.stage}: {path} is not for code of the project to read",
                "run `slmcompile sync --all`, or put the file where it is seen",
            )


def _run(kind: Kind, context: Context, most_bytes: int) -> Result:
    request = {
        "kind": kind.name,
        "most_bytes": most_bytes,
        "context": {
            **{name: str(getattr(context, name)) for name in ("project", "out", "scratch")},
            **{name: getattr(context, name) for name in ("stage", "config", "manifests")},
            **{name: getattr(context, name) for name in ("fingerprint", "runtime", "spec")},
            "inputs": {role: str(path) for role, path in context.inputs.items()},
        },
    }
    receiver = Receiver(context.progress)
    signals: list[int] = []
    with stop_on_signals() as stop, started(_container(context), _program) as process:
        process.write(json.dumps(request).encode("ascii"))

        def pass_on() -> None:
            if stop and not signals:
                signals.append(int(stop.signal or signal.SIGINT))
                process.write(b"%d" % signals[0])

        try:
            code = process.follow(receiver.feed, receiver.printed, pass_on, _seconds())
        except TooLongError as error:
            raise StageFailedError(
                f"the program in the container has run for more than {_seconds():.0f} s",
                f"read the code that this stage executes, or raise {LIMIT}",
            ) from error
    return _outcome(receiver, code, stop)


def _program(descriptor: int) -> list[str]:
    return python_module("slmcompile.stages.isolated_child", str(descriptor))


def _outcome(receiver: Receiver, code: int, stop: StopRequest) -> Result:
    if receiver.error is not None:
        raise receiver.error if stop else as_failed(receiver.error)
    if receiver.result is None or code != 0:
        ended = f"by signal {code - 128}" if code > 128 else f"with exit {code}"
        raise StageFailedError(
            f"the program in the container ended {ended} and without a result",
            "read the code that this stage executes; by signal 9 memory may have run out",
        )
    return receiver.result


def _seconds() -> float:
    told = os.environ.get(LIMIT, "")
    if not told:
        return float("inf")
    if not told.isdecimal() or not 0 < int(told) < 1 << 31:
        raise UsageError(f"{LIMIT} is not a number of seconds", f"{LIMIT}=7200, or leave it out")
    return float(told)
