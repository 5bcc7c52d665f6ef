"""Temporary projects for tests: the shipped groups, recipes and data in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def make_project(folder: Path, *, data: tuple[str, ...] = ("tiny", "voice-intents")) -> Path:
    """A project with the shipped groups, two recipes of one adapter and data; not under git."""
    (folder / "recipes").mkdir(parents=True)
    shutil.copyfile(REPOSITORY / "recipes/tiny.yaml", folder / "recipes/tiny.yaml")
    (folder / "recipes/quickstart.yaml").write_text(_of_three_targets(), encoding="utf-8")
    shutil.copytree(REPOSITORY / "conf", folder / "conf")
    for name in data:
        shutil.copytree(REPOSITORY / "data" / name, folder / "data" / name)
    return folder


def _of_three_targets() -> str:
    """The quickstart as most recipes are: trained over the base, merged for each of its targets."""
    text = (REPOSITORY / "recipes/quickstart.yaml").read_text(encoding="utf-8")
    for shipped, here in (
        ("target: [cpu-int4]", "target: [cpu-int8, cpu-int4, cpu-fp32]"),
        ("  over: cpu-int4\n", ""),
        ("artifact: cpu-int4", "artifact: cpu-int8"),
    ):
        assert shipped in text, f"the quickstart has no {shipped!r}"
        text = text.replace(shipped, here)
    return text


def make_repository(folder: Path) -> Path:
    """As ``make_project``, under git and DVC with everything committed."""
    make_project(folder)
    for name in (".gitignore", ".dvcignore", "dvc.yaml"):
        shutil.copyfile(REPOSITORY / name, folder / name)
    shutil.copytree(
        REPOSITORY / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp")
    )
    command(folder, "git", "init", "--quiet")
    commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commits everything."""
    command(folder, "git", "add", "--all")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command(folder, "git", *identity, "commit", "--quiet", "--allow-empty", "-m", message)


def command(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program in ``folder`` as a user would, with this environment's programs first."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def slmcompile(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return command(folder, sys.executable, "-m", "slmcompile", *words, check=check)


_WRITTEN_BY_LIBRARIES = ("ORT_LIB_PATH", "TORCHINDUCTOR_CACHE_DIR")


def environment() -> dict[str, str]:
    """The test's environment, with the ``slmcompile`` command of this interpreter first.

    Without what libraries write into it where another test has imported them.
    """
    shell = {k: v for k, v in os.environ.items() if k not in _WRITTEN_BY_LIBRARIES}
    return shell | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }


def plant_modules(folder: Path, canary: Path) -> None:
    """Files that Python would import instead of the library's, were ``folder`` on its path."""
    for name in ("json", "torch", "yaml", "numpy", "logging", "dvc", "pip", "slmcompile"):
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
