"""A container to run a program in that nobody has read: bubblewrap's, with as little as it can do.

What runs in it sees the files that it is given and no others, no network, no other process, no
variable but those that are named, and ends with whoever started it. Knows nothing of what the
program is.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from slmcompile.console.errors import MissingError
from slmcompile.machine.interpreter import parts_of_python, variables_of_python
from slmcompile.machine.system_calls import filtered, known

HOME = "/tmp/home"  # noqa: S108 - of the container, whose own it is
_PROGRAM = "bwrap"
_SMALL, _TEMPORARY = 64 << 20, 1 << 30
"""Bytes that folders in memory may hold."""
_NAMESPACES = ("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL")
_ENDS = ("--die-with-parent", "--new-session", "--as-pid-1")
"""As process 1, so that when the program ends the kernel has ended all that it started."""
_OF_THE_MACHINE = (Path("/sys/devices/system/cpu"), Path("/sys/devices/system/node"))
"""How many threads compute depends on it, and so do results."""
_WRITTEN = "/proc/sys"
_SWITCHES = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps it from user namespaces (Ubuntu 24.04): give /usr/bin/bwrap a profile with"
        " `userns,`, or `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are off: `sudo sysctl -w kernel.unprivileged_userns_clone=1`",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "user namespaces are off: `sudo sysctl -w user.max_user_namespaces=15000`",
    ),
)
"""What usually keeps bubblewrap from working, by the file that says so, and how to mend it."""


@dataclass(frozen=True)
class Container:
    """What a program in it finds beside Python itself.

    Attributes:
        readable: files and folders, by the path at which it finds them.
        writable: folders that it may write into, at their own paths.
        hidden: folders that are empty where they would otherwise lie in what is readable.
        variables: of its environment, beside what Python needs.
    """

    readable: Mapping[Path, Path] = field(default_factory=dict)
    writable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, program: Sequence[str], calls: int, info: int | None = None) -> list[str]:
        """The command that runs a program in it.

        Args:
            program: and its arguments.
            calls: descriptor of ``filtered``.
            info: descriptor to which bubblewrap writes what it has started.
        """
        words = [_bubblewrap(), *_NAMESPACES, *_ENDS, "--hostname", "container", "--clearenv"]
        words += ["--seccomp", str(calls)]
        words += ["--info-fd", str(info)] if info is not None else []
        variables = {**variables_of_python(), "HOME": HOME, "TMPDIR": "/tmp", **self.variables}  # noqa: S108
        for name, value in variables.items():
            words += ["--setenv", name, value]
        words += ["--proc", "/proc", "--dev", "/dev", *_memory("/dev/shm", _SMALL)]  # noqa: S108
        words += [*_memory("/tmp", _TEMPORARY), "--dir", HOME]  # noqa: S108
        # Those above come first: what is given below something hidden is seen.
        for _, _, mount in sorted(self._mounts(), key=lambda each: each[:2]):
            words += mount
        # What lies in no folder that was given, in memory too, is not written. In /proc root would
        # find hundreds of the machine's switches for which the kernel asks for no capability.
        for folder in ("/proc", "/dev", "/"):
            words += ["--remount-ro", folder]
        return [*words, "--chdir", "/", *program]

    def _mounts(self) -> list[tuple[int, int, list[str]]]:
        """Each with how deep it lies, and which of those at one place is behind the other."""
        given: list[tuple[Path, int, list[str]]] = [
            *((path, 0, _of_python(path)) for path in parts_of_python()),
            *((path, 0, _bound(path)) for path in _OF_THE_MACHINE if path.is_dir()),
            *((path, 1, _memory(str(path), _SMALL)) for path in self.hidden),
            *((at, 2, _bound(at, path)) for at, path in self.readable.items()),
            *((path, 3, ["--bind", str(path), str(path)]) for path in self.writable),
        ]
        return [(len(at.parts), place, words) for at, place, words in given if len(at.parts) > 1]


@lru_cache(maxsize=1)
def require_containers() -> None:
    """That a container works here, by one that runs Python and does nothing.

    Raises:
        MissingError: bubblewrap is not installed, or may not do what it does (exit 69).
    """
    if not known():
        raise _not_working(f"nobody knows the system calls of {platform.machine()}")
    with tempfile.TemporaryDirectory(prefix="slmcompile-") as folder, filtered() as calls:
        container = Container(writable=(Path(folder).resolve(),))
        command = container.command([sys.executable, "-I", "-S", "-c", "pass"], calls)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(calls,),
                env={},
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _not_working(type(error).__name__) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _not_working(said[-1] if said else f"it ended with {done.returncode}")


def _bubblewrap() -> str:
    found = shutil.which(_PROGRAM)
    if found is None:
        raise MissingError(
            "code of the project is to run in a container, and bubblewrap is not installed",
            "`apt-get install bubblewrap` (0.8 or newer)",
        )
    return str(Path(found).resolve())


def _not_working(said: str) -> MissingError:
    mend = (
        "bubblewrap 0.8 or newer must be allowed to make user namespaces here; in Docker that takes"
        " `--security-opt` seccomp=unconfined, apparmor=unconfined and systempaths=unconfined"
    )
    for file, value, how in _SWITCHES:
        try:
            if Path(_WRITTEN, file).read_text(encoding="ascii").strip() == value:
                mend = how
                break
        except OSError:
            continue
    return MissingError(
        f"code of the project is to run in a container, and bubblewrap does not work: {said}", mend
    )


def _of_python(path: Path) -> list[str]:
    """``/lib`` and the like are links in many systems, and programs ask for them as such."""
    link = path.is_symlink() and len(path.parts) == 2
    return ["--symlink", str(path.readlink()), str(path)] if link else _bound(path)


def _bound(at: Path, path: Path | None = None) -> list[str]:
    return ["--ro-bind", os.path.realpath(path or at), str(at)]


def _memory(folder: str, most: int) -> list[str]:
    """An empty folder in memory."""
    return ["--size", str(most), "--tmpfs", folder]
