"""A contestant's training in a process of its own, and what its meter said.

All get the same settings of the libraries below torch: waiting threads spin for microseconds and
then sleep (``GOMP_SPINCOUNT``), as slmcompile has it. libgomp's own default, milliseconds, would
cost whoever leaves it CPU-seconds beside any other busy program.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peers.install import install, version
from peers.running import failure, run

from rivals.contestants import Contestant
from rivals.job import Job
from rivals.meter import Mark

BENCHMARKS = Path(__file__).resolve().parents[1]
MEMORY = 1 << 40
"""Bytes: no limit."""
TIMEOUT = 1800.0


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        marks: the first is the start-up's, then one for each optimizer step.
        saved: adapters written on the way: number of the mark, folder.
        peak: bytes, the largest resident size.
    """

    marks: list[Mark]
    saved: list[tuple[int, Path]]
    peak: int

    def over(self, warm_up: int) -> Mark:
        """What the steps after so many came to."""
        first, last = vars(self.marks[warm_up]), vars(self.marks[-1])
        return Mark(**{name: last[name] - first[name] for name in first})


def prepare(contestants: Mapping[str, Contestant], venvs: Path) -> dict[str, Path]:
    """Environments of all; returns each one's Python, and prints versions.

    Raises:
        SystemExit: one could not be installed.
    """
    pythons, told = {}, {}
    for key, each in contestants.items():
        programs, problem = install(each.environment, each.package, venvs)
        if problem:
            raise SystemExit(f"{each.name}: not installed: {problem}")
        pythons[key] = programs / "python"
        told[each.package] = version(each.package, programs)
    for line in told.values():
        print(f"- {line}")
    return pythons


def train(contestant: Contestant, job: Job, python: Path) -> Trained:
    """Trains in a folder made anew.

    Raises:
        SystemExit: it failed; with its last words.
    """
    out = Path(job.out)
    begin(contestant.program, replace(job, options=dict(contestant.options)), python)
    found: dict[str, Any] = json.loads((out / "meter.json").read_text(encoding="utf-8"))
    return Trained(
        [Mark(**mark) for mark in found["marks"]],
        [(number, Path(folder)) for number, folder in found["saved"]],
        found["peak"],
    )


def begin(program: str, job: Job, python: Path) -> str:
    """Runs a program of this package on a job to its end; returns what it printed."""
    out = Path(job.out)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    job.write(out / "job.json")
    paths = [str(BENCHMARKS)]
    if python.parent == Path(sys.executable).parent:
        paths.append(str(BENCHMARKS.parent))
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(job.threads),
        "GOMP_SPINCOUNT": "10000",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(out / "hf"),
    }
    words = [str(python), "-m", f"rivals.{program}", str(out / "job.json")]
    ended = run(words, out, environment, MEMORY, TIMEOUT)
    if ended.code != 0:
        raise SystemExit(f"{program}: exit {ended.code}: {failure(ended.output)}")
    return ended.output
