"""The machine that a run would use, read from files alone: no child process, no heavy import."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """A machine.

    Attributes:
        memory_bytes: memory that one process may use; ``None`` where it cannot be told.
        disk_bytes: free bytes where the project lies; ``None`` where it cannot be told.
        cpu_flags: feature flags of ``/proc/cpuinfo`` (``amx_bf16``, ``avx512_bf16``, ``avx2``),
            none where it cannot be told.
        stated: whether the recipe says so, rather than this machine.
    """

    memory_bytes: int | None
    disk_bytes: int | None
    cpu_flags: frozenset[str]
    stated: bool = False


def detect(folder: Path) -> Device:
    """This machine; ``folder`` is where artifacts will be written."""
    try:
        space = os.statvfs(folder)
        disk: int | None = space.f_bavail * space.f_frsize
    except OSError:
        disk = None
    return Device(_memory(), disk, _cpu_flags())


def stated(device: Device, memory_gb: float | None) -> Device:
    """The device with the memory that a recipe states, if it states any."""
    if memory_gb is None:
        return device
    return replace(device, memory_bytes=int(memory_gb * 1e9), stated=True)


def _memory() -> int | None:
    """The smallest of the machine's memory, the control group's limit and this process's own.

    A process's own (``ulimit -v``, ``ulimit -d``) is how batch systems hold a job to its share; a
    run's stages inherit it.
    """
    total = [line for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")]
    found = [int(line.split()[1]) * 1024 for line in total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        found += [int(line) for line in _lines(path) if line.strip().isdigit()]
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    found += [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min(found) if found else None


@cache  # a process stays on its processor
def _cpu_flags() -> frozenset[str]:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith(("flags", "Features")):  # x86, Arm
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def cpu_name() -> str:
    """The processor as it calls itself; its architecture where it does not say."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
