"""What a run asks of the operating system."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Literal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
STARTED_BY = "SLMCOMPILE_STARTED_BY"
"""Environment variable: the process, as ``mark`` names it, whose end ends the stages behind it."""
GIVEN_BACK = 1 << 20
"""Bytes from which a freed block goes back to the system."""


def die_with_parent() -> None:
    """Ends this process when the process that started it ends, so that no orphan writes on.

    DVC starts a stage through a shell. Where the shell stays in between, the kernel's parent-death
    signal speaks of the shell alone, so the grandparent is watched as well. Both may have ended
    before this process can ask, so a run also names itself to what it starts (``STARTED_BY``).
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    signal_on_parent_death(signal.SIGKILL)
    started_by = os.environ.get(STARTED_BY, "")
    if os.getppid() != parent or not _is_there(started_by):
        os.kill(os.getpid(), signal.SIGKILL)
    watched = parent, _parent_of(parent), started_by
    threading.Thread(target=_watch, args=watched, daemon=True).start()


def signal_on_parent_death(number: int) -> None:
    """Asks the kernel to send this process a signal when its parent ends (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def python_module(name: str, *arguments: str) -> list[str]:
    """The command ``python -m name arguments…``, but for one thing.

    Modules are not looked for in the current folder: the project may be a stranger's, and hold a
    ``json.py``. (Python has ``-P`` for that from 3.11 on.)
    """
    run = "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    code = f"import sys; sys.path[:] = filter(None, sys.path); import runpy; {run}"
    return [sys.executable, "-c", code, name, *arguments]


def prepare_to_compute() -> None:
    """Settings of the libraries below torch, before it is imported; no result depends on them.

    - Threads that wait spin for microseconds and then sleep. libgomp's default, milliseconds, makes
      two threads ten times slower beside any other busy program; not spinning at all costs 40 % on
      an idle machine.
    - oneDNN keeps 64 compiled operations and not 1,024: one training step needs some fifty, and
      every other length of a batch compiles its own, a quarter of a megabyte each.
    - glibc gives large freed blocks back. Left alone it learns from them to keep up to 32 MB each,
      and between batches of many lengths the holes add up: the quickstart's training took 2.7 GB
      instead of 1.8 GB with both defaults, at the same speed.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(option, GIVEN_BACK)


def mark(pid: int) -> str:
    """A process by its number and the tick it started at; empty where none has the number."""
    started = _stat(pid, _STARTED)
    return "" if started is None else f"{pid}:{started}"


def _watch(parent: int, grandparent: int | None, started_by: str) -> None:
    while os.getppid() == parent and _parent_of(parent) == grandparent and _is_there(started_by):
        time.sleep(0.25)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_there(marked: str) -> bool:
    """Whether a process that ``mark`` named lives; nobody named is there."""
    pid = marked.partition(":")[0]
    return not marked or (pid.isdecimal() and mark(int(pid)) == marked)


def _parent_of(pid: int) -> int | None:
    return _stat(pid, _PARENT)


# Places in /proc/PID/stat behind the name (proc_pid_stat(5)).
_PARENT, _STARTED = 1, 19


def _stat(pid: int, place: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(stat.rpartition(")")[2].split()[place])
    except (OSError, ValueError, IndexError):
        return None


def thread_count(num_threads: int | Literal["auto"]) -> int:
    """Threads to compute with: as told, or the physical cores that this process may use.

    Two hardware threads of one core share its arithmetic units and only get in each other's way.
    """
    if num_threads != "auto":
        return num_threads
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return max(1, len({_core(cpu) for cpu in os.sched_getaffinity(0)}))


def _core(cpu: int) -> str:
    """A name shared by the hardware threads of one core; the CPU's own where Linux names none."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)
