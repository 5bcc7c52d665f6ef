"""An environment of its own for every peer, with the exact versions of ``peers/NAME.txt``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parent


def install(key: str, package: str, environments: Path) -> tuple[Path, str]:
    """Makes the environment, or finds it made before from the same pins.

    Args:
        key: names the pins and the environment's folder.
        package: on PyPI; empty for slmcompile, which is taken from this tree.
        environments: folder that each has a folder in.

    Returns:
        its folder of programs, and why it could not be installed ("" if it was).
    """
    if not package:
        return Path(sys.executable).parent, ""
    pins, environment = PINS / f"{key}.txt", environments / key
    mark, digest = environment / "installed", hashlib.sha256(pins.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text(encoding="ascii") == digest:
        return environment / "bin", ""
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    # The pins are whole: resolving them again could only add what was left out on purpose.
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--quiet"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "-r", str(pins)],
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return environment / "bin", errors[-1] if errors else done.stderr[-300:]
    _without_cuda(environment)
    mark.write_text(digest, encoding="ascii")
    return environment / "bin", ""


def version(package: str, programs: Path) -> str:
    """The package's (slmcompile's where it is empty) and torch's versions as installed."""
    python = str(programs / "python")
    names = list(dict.fromkeys([package or "slmcompile", "torch", "transformers", "peft"]))
    program = "import sys; from importlib.metadata import version as v; "
    program += "print(*(f'{n} {v(n)}' for n in sys.argv[1:]), sep=', ')"
    done = subprocess.run(
        [python, "-c", program, *names],
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stdout.strip()


def _without_cuda(environment: Path) -> None:
    """Takes torchaudio's native library out: it is linked against CUDA.

    torchaudio (2.11) can do without a library that is not there, not with one that does not load.
    """
    for library in environment.glob("lib/python*/site-packages/torchaudio/lib/*.so"):
        library.unlink()
