"""Runs one stage of a project again and again, cut short each time: killed, or by a full disk.

A program of its own, ``killed`` or ``full`` with a root and a spec's path: what it has imported
once each run is forked from, without threads of a test. It prints what became of each as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.projects import REPOSITORY, environment

_KILLS = 3
_MEMORY_SHARES = ("kept", "finished", "scratch", "locks")


class Cut(NamedTuple):
    """A run that was cut short.

    Attributes:
        at: what it was about to do to which path, or how many bytes there was room for.
        code: what it ended with; negative for a signal.
        what: its error.
        target: ``whole``, ``absent`` or what is wrong with the stage's output folder.
        again: what the next run ended with, its error behind it.
        same: whether the folder then has the bytes of a run that nothing cut short.
        left: files of unfinished work that are still there then.
    """

    at: str
    code: int
    what: str
    target: str
    again: str
    same: bool
    left: list[str]


def killed(root: Path, spec: str) -> list[Cut]:
    """The stage killed by ``SIGKILL`` before several of the changes that it makes to files."""
    return _runs([sys.executable, "-m", "tests.cut_short", "killed", str(root), spec])


def full(root: Path, spec: str, mounted: Path) -> list[Cut]:
    """The stage with room for nothing, then for more and more, until it has enough.

    Args:
        root: of a project, which is copied onto a file system of its own.
        spec: path of the stage's spec.
        mounted: an empty folder for that.
    """
    script = (
        f"mount -t tmpfs -o size=64m tmpfs {mounted} && cp -a {root}/. {mounted}/ && "
        f"exec {sys.executable} -m tests.cut_short full {mounted} {spec}"
    )
    return _runs(["unshare", "--map-root-user", "--mount", "sh", "-c", script])


def _runs(command: list[str]) -> list[Cut]:
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [Cut(*each) for each in json.loads(done.stdout.splitlines()[-1])]


class _Stage:
    """One stage of a project, run in a fork each time."""

    def __init__(self, root: Path, spec: str) -> None:
        self._root, self._spec = root, spec
        read = json.loads((root / spec).read_text(encoding="utf-8"))
        self.out = root / read["out"]

    def run(self, watch: Callable[[str, tuple[Any, ...]], None] | None = None) -> tuple[int, str]:
        """What it ended with, negative for a signal, and its error."""
        from slmcompile.console.errors import SlmcompileError
        from slmcompile.recipe.project import Project
        from slmcompile.stages.runner import execute

        theirs, ours = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(2, 1)  # what it says is not what this program prints
            code, what = 0, ""
            try:
                if watch is not None:
                    sys.addaudithook(watch)
                execute(Project(self._root), self._spec)
            except SlmcompileError as error:
                code, what = int(error.code), error.what
            except BaseException:  # noqa: BLE001  # no fork goes on as its parent would
                code, what = 70, traceback.format_exc()
            os.write(ours, what.encode()[-4000:])
            os._exit(code)
        os.close(ours)
        with os.fdopen(theirs, encoding="utf-8", errors="replace") as stream:
            what = stream.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), what

    def forget(self) -> None:
        """As if it had never run."""
        for folder in (self.out, *(self._root / ".slmcompile" / name for name in _MEMORY_SHARES)):
            shutil.rmtree(folder, ignore_errors=True)

    def target(self) -> str:
        """``whole``, ``absent``, or what is wrong."""
        from slmcompile.console.errors import CorruptError
        from slmcompile.files.artifact import verify

        if not self.out.exists():
            return "absent"
        try:
            verify(self.out)
        except CorruptError as error:
            return error.what
        return "whole"

    def manifest(self) -> bytes:
        """Of its output: the hash of every file."""
        return (self.out / "manifest.json").read_bytes()

    def left(self) -> list[str]:
        """What nobody will ask for again."""
        scratch = self._root / ".slmcompile/scratch"
        found = [*self._root.rglob("*.part"), *(scratch.rglob("*") if scratch.is_dir() else ())]
        return [path.relative_to(self._root).as_posix() for path in found]

    def cut(self, at: str, code: int, what: str, whole: bytes) -> Cut:
        """What became of a run, and of the next."""
        target = self.target()
        ended, error = self.run()
        same = not ended and self.manifest() == whole
        return Cut(at, code, what, target, f"{ended} {error}".strip(), same, self.left())


_OPENED_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = frozenset({"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"})


def _change(root: Path, event: str, args: tuple[Any, ...]) -> str:
    """What an audit event is about to change below a folder; empty of all others."""
    writes = event in _CHANGES or (event == "open" and bool(args[2] & _OPENED_TO_WRITE))
    path = os.fsdecode(args[0]) if writes and isinstance(args[0], str | bytes | Path) else ""
    return f"{event} {path}" if path.startswith(str(root)) else ""


def _killed(root: Path, stage: _Stage) -> list[Cut]:
    whole, changes = _changes(root, stage)
    # Evenly over all that it does until its folder gets its name, and right before and after that.
    named = changes.index(f"os.rename {stage.out.with_name(f'.{stage.out.name}.part')}")
    cuts = []
    for number in sorted({*(round(n * named / _KILLS) for n in range(_KILLS)), named, named + 1}):
        stage.forget()
        seen = 0

        def watch(event: str, args: tuple[Any, ...], last: int = number) -> None:
            nonlocal seen
            if _change(root, event, args):
                if seen == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        code, what = stage.run(watch)
        cuts.append(stage.cut(changes[number], code, what, whole))
    return cuts


def _changes(root: Path, stage: _Stage) -> tuple[bytes, list[str]]:
    """The manifest that an undisturbed run writes, and what it changes on its way."""
    stage.run()  # the first run of all makes folders that stay
    stage.forget()
    listed = root / "changes.txt"
    stream = os.open(listed, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if change := _change(root, event, args):
            os.write(stream, f"{change}\n".encode())

    code, what = stage.run(watch)
    os.close(stream)
    assert code == 0, what
    return stage.manifest(), listed.read_text(encoding="utf-8").splitlines()


def _full(root: Path, stage: _Stage) -> list[Cut]:
    stage.forget()
    code, what = stage.run()
    assert code == 0, what
    whole = stage.manifest()
    filler, room, cuts = root / "filler", 0, list[Cut]()
    while not cuts or cuts[-1].code:
        stage.forget()
        disk = os.statvfs(root)
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, disk.f_bavail * disk.f_frsize - room)
        code, what = stage.run()
        filler.unlink()
        cuts.append(stage.cut(f"{room} bytes", code, what, whole))
        room += room + 60_000
    return cuts


if __name__ == "__main__":
    for _module in ("export", "beside", "quantize"):
        importlib.import_module(f"slmcompile.export.{_module}")
    importlib.import_module("onnxruntime_genai.models.builder")
    _how, _where = {"killed": _killed, "full": _full}[sys.argv[1]], Path(sys.argv[2])
    print(json.dumps(_how(_where, _Stage(_where, sys.argv[3]))))
