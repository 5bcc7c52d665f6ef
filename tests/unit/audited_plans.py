"""Plans recipes in this process and writes down everything that the interpreter was asked to do.

Run as a program: a JSON list of ``{"root": …, "words": […]}`` on standard input, one JSON object a
line on standard output. An audit hook sees every file, process and socket, and cannot be taken off.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time

MEMORY = 512 << 20
SECONDS = 2
WATCHED = {
    "ctypes.dlopen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "pty.spawn",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "urllib.Request",
}
seen: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"open", "os.listdir", "os.scandir"} and isinstance(arguments[0], str | bytes):
        seen.append(f"open {os.path.realpath(os.fsdecode(arguments[0]))}")
    elif event in WATCHED and arguments != (None,):  # a handle to this process itself
        seen.append(f"{event} {arguments!r}")
    elif event == "import" and str(arguments[0]).startswith("hydra_plugins"):
        seen.append(f"import {arguments[0]}")


def main() -> None:
    from slmcompile.cli.main import main as slmcompile

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.addaudithook(watch)
    for request in json.load(sys.stdin):
        os.chdir(request["root"])
        seen.clear()
        out, err = io.StringIO(), io.StringIO()
        began = time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = slmcompile(request["words"])
        answer = {
            "code": code,
            "seconds": time.process_time() - began,
            "out": out.getvalue(),
            "err": err.getvalue(),
            "seen": sorted(set(seen)),
        }
        print(json.dumps(answer), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
