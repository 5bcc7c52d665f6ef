"""Training speed of slmcompile's loop against other tools' on the same adapter, in one run.

Same base model, rows, LoRA (on all linear layers), rows a step, precision and threads. Each
contestant trains in a process of its own, with the exact versions of ``peers/*.txt`` (environments
are made where ``--venvs`` says, some gigabytes, minutes once), and they take turns, so that a busy
machine disturbs all. Start-up and two steps are set apart; medians over the rounds, each round with
another order of the rows. Tokens are real ones: padding counts for nobody. Beside them stands what
the machine's products would allow (``roofline.py``), measured in every round.

    slmcompile run quickstart --select +data       # makes outputs/base-… and outputs/data-…
    python benchmarks/train_throughput.py outputs/base-… outputs/data-…
    python benchmarks/train_throughput.py BASE DATA --contestants ours,trl --rounds 5 --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rivals.command_line import add_common
from rivals.contestants import CONTESTANTS
from rivals.inputs import write_rows
from rivals.job import Job
from rivals.launch import Trained, begin, prepare, train
from rivals.machine import processor

from slmcompile.data.store import read_split

WARM_UP = 2
MAX_LENGTH = 128
"""Tokens of a row of the quickstart at most, and of what rows are joined to."""
LEARNING_RATE = 1e-3


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_common(parser, "ours,trainer,trl,trl-packed,olive")
    parser.add_argument("--steps", type=int, default=6, help="measured ones, a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="rows of a step")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    args = arguments()
    pythons = prepare(args.contestants, args.venvs)
    found: dict[str, list[Trained]] = {key: [] for key in args.contestants}
    roofs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        rows = read_split(args.data, "train")
        given = write_rows(folder, args.base, rows, args.batch)
        try:
            for number in range(args.rounds):
                _round(args, folder, number, given, pythons, found, roofs)
        except KeyboardInterrupt:
            print("interrupted: the figures are of what was done before", file=sys.stderr)
    _print(args, given["mean_length"], found, roofs)


def _round(
    args: argparse.Namespace,
    folder: Path,
    number: int,
    given: dict[str, Any],
    pythons: dict[str, Path],
    found: dict[str, list[Trained]],
    roofs: list[dict[str, float]],
) -> None:
    job = Job(
        base=str(args.base),
        out=str(folder / "out"),
        steps=WARM_UP + args.steps,
        batch=args.batch,
        threads=args.threads,
        precision=args.precision,
        learning_rate=LEARNING_RATE,
        rank=args.rank,
        max_length=MAX_LENGTH,
        seed=number,
        **given,
    )
    roofs.append(json.loads(begin("measure_roofline", job, Path(sys.executable))))
    for key, contestant in args.contestants.items():
        found[key].append(train(contestant, job, pythons[key]))
        done = found[key][-1].over(WARM_UP)
        speed = f"{done.tokens / done.cpu:.0f} tokens per CPU-second"
        print(f"round {number + 1}: {contestant.name}: {speed}", file=sys.stderr, flush=True)


def _print(
    args: argparse.Namespace,
    mean_length: float,
    found: dict[str, list[Trained]],
    roofs: list[dict[str, float]],
) -> None:
    # Other programs only ever make products slower.
    roof = max(roofs, key=lambda each: each["rate"])
    allowed = roof["tokens"] / args.threads
    print(
        f"\n{processor()}, {args.threads} threads, load {os.getloadavg()[0]:.1f};"
        f" {args.precision}, LoRA r {args.rank} on all linears, {args.batch} rows of"
        f" {mean_length:.1f} tokens a step; medians of {len(roofs)} round(s) of {args.steps} steps."
    )
    print(
        f"Products {roof['rate'] / 1e9:.0f} GFLOP/s: {roof['tokens']:.0f} tokens/s at most,"
        f" {allowed:.0f} per CPU-second.\n"
    )
    print(
        "| | tokens per CPU-second | of the roofline | examples per CPU-second | tokens/s"
        " | padding | peak, GB | start-up, CPU-s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for key, rounds in found.items():
        if not rounds:
            continue
        steps = [each.over(WARM_UP) for each in rounds]
        by_cpu = statistics.median(step.tokens / step.cpu for step in steps)
        examples = statistics.median(step.rows / step.cpu for step in steps)
        by_wall = statistics.median(step.tokens / step.wall for step in steps)
        padding = 1 - sum(step.tokens for step in steps) / sum(step.places for step in steps)
        peak = statistics.median(each.peak for each in rounds) / 1e9
        start = statistics.median(each.marks[0].cpu for each in rounds)
        print(
            f"| {CONTESTANTS[key].name} | {by_cpu:.0f} | {by_cpu / allowed:.1%} | {examples:.2f}"
            f" | {by_wall:.0f} | {padding:.0%} | {peak:.2f} | {start:.1f} |"
        )
    print()
    for contestant in args.contestants.values():
        print(f"- {contestant.name}: {contestant.notes}.")


if __name__ == "__main__":
    main()
