"""What the plan of a pull request costs: `slmcompile ci plan` where a few of many recipes changed.

Makes a repository of N recipes, each with values of its own over the shipped groups, and a commit
on top that changes the learning rate of some. Prints CPU seconds, wall seconds and peak memory of
the plan, of the comment, and of `git log` as what a process costs here at the least.

    python benchmarks/pull_request_plan.py --recipes 100 --changed 3 --rounds 3

Every figure is the median of the rounds, each of them from cold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from plan_scale import make_project

PROGRAM = (sys.executable, "-m", "slmcompile")


def git(folder: Path, *words: str) -> None:
    """Runs git."""
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    """Commits everything."""
    git(folder, "add", "--all")
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    git(folder, *who, "commit", "--quiet", "-m", message)


def make_repository(folder: Path, recipes: int, changed: int) -> None:
    """A branch ``main``, and a commit behind it that changes some of its recipes."""
    make_project(folder, recipes)
    git(folder, "init", "--quiet", "-b", "main")
    commit(folder, "start")
    git(folder, "checkout", "--quiet", "-b", "mine")
    for path in sorted((folder / "recipes").glob("recipe-*.yaml"))[:changed]:
        path.write_text(
            path.read_text(encoding="utf-8").replace("e-4\n", "e-5\n"), encoding="utf-8"
        )
    commit(folder, "change")


def measured(folder: Path, words: Sequence[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak MB of a process."""
    begun = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    wall = time.perf_counter() - begun
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipes", type=int, default=100)
    parser.add_argument("--changed", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary).resolve() / "project", Path(temporary) / "proposal.json"
        make_repository(folder, arguments.recipes, arguments.changed)
        jobs = {
            "git log": ("git", "log", "-1"),
            "ci plan": (*PROGRAM, "ci", "plan", "--against", "main", "--out", str(out)),
            "ci comment": (*PROGRAM, "ci", "comment", str(out)),
        }
        measured(folder, jobs["ci plan"])  # bytecode
        found = {
            name: [measured(folder, words) for _ in range(arguments.rounds)]
            for name, words in jobs.items()
        }
        proposal = json.loads(out.read_text(encoding="utf-8"))
        touched = len(proposal["recipes"])
        print(f"{touched} of {touched + proposal['unchanged']} recipes touched")
        for name, rounds in found.items():
            cpu, wall, memory = (statistics.median(each) for each in zip(*rounds, strict=True))
            print(f"{name:<11} {cpu:6.2f} CPU-s  {wall:6.2f} s  {memory:6.0f} MB")


if __name__ == "__main__":
    main()
