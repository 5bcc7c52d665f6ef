"""How many CPU-seconds of training an adapter takes until it answers well, beside other tools.

Seven intents of the quickstart's sentences (``rivals/intents.py``); each contestant trains the same
LoRA once over the same rows, in the order in which slmcompile's loop takes them, as far as it lets
itself be told (Olive cuts the joined text into pieces, packing puts rows together as they fit). At
fixed counts of rows the adapter is written and, after all training, judged by one judge: the share
of held-out rows that are answered exactly, greedily, by slmcompile's torch model. CPU-seconds are
those of training steps: start-up, writing and judging are in none of them. The learning rate is one
constant for all, so that a place on a curve does not depend on where it is to end.

    python benchmarks/time_to_quality.py BASE DATA --svg docs/time-to-quality.svg
    python benchmarks/time_to_quality.py BASE DATA --contestants ours,trl --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rivals.command_line import add_common
from rivals.contestants import CONTESTANTS
from rivals.inputs import write_rows
from rivals.intents import INTENTS, intents
from rivals.job import Job
from rivals.launch import Trained, begin, prepare, train
from rivals.machine import processor
from rivals.picture import curves
from rivals.with_ours import order

from slmcompile.data.store import write_split

BARS = (0.80, 0.90, 0.95)
MAX_LENGTH = 128
Curve = list[tuple[int, float, float]]
"""Rows seen, CPU-seconds of training, share of held-out rows answered exactly."""


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_common(parser, "ours,trainer,trl,trl-packed,olive")
    parser.add_argument("--rounds", type=int, default=1, help="seeds; curves are their means")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--every", type=int, default=64, help="rows between two judgements")
    parser.add_argument("--held-out", type=int, default=128, help="rows judged by, at most")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--svg", type=Path, help="file to draw the curves into")
    parser.add_argument("--json", type=Path, help="file to write the points into")
    return parser.parse_args()


def main() -> None:
    """Trains, judges, prints and draws."""
    args = arguments()
    pythons = prepare(args.contestants, args.venvs)
    found: dict[str, list[Curve]] = {key: [] for key in args.contestants}
    with tempfile.TemporaryDirectory() as work:
        folder, count = Path(work), args.steps * args.batch
        rows, held_out = intents(args.base, args.data, count, args.held_out)
        try:
            for seed in range(args.rounds):
                job = _job(args, folder, seed, rows)
                write_split(folder, "held_out", held_out)
                for key, contestant in args.contestants.items():
                    trained = train(contestant, replace(job, out=str(folder / key)), pythons[key])
                    found[key].append(_judged(job, trained, folder / "judge"))
                    _tell(contestant.name, found[key][-1])
        except KeyboardInterrupt:
            print("interrupted: the figures are of what was done before", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(found), encoding="utf-8")
    _print(args, len(held_out), {key: _mean(each) for key, each in found.items() if each})


def _tell(name: str, curve: Curve) -> None:
    points = ", ".join(f"{share:.2f} after {rows} rows, {cpu:.0f} s" for rows, cpu, share in curve)
    print(f"{name}: {points}", file=sys.stderr, flush=True)


def _job(args: argparse.Namespace, folder: Path, seed: int, rows: Sequence[Any]) -> Job:
    job = Job(
        base=str(args.base),
        data=str(folder),
        rows="",
        out=str(folder / "out"),
        steps=args.steps,
        batch=args.batch,
        threads=args.threads,
        precision=args.precision,
        learning_rate=args.learning_rate,
        rank=args.rank,
        max_length=MAX_LENGTH,
        mean_length=0.0,
        begins=[],
        seed=seed,
        in_order=True,
        save_at=list(range(args.every, args.steps * args.batch + 1, args.every)),
    )
    taken = order(job, [len(row.input_ids) for row in rows], group_by_length=True)
    numbers = [number for batch in taken for number in batch]
    return replace(job, **write_rows(folder, args.base, rows, args.batch, numbers))


def _judged(job: Job, trained: Trained, out: Path) -> Curve:
    adapters = [str(folder) for _, folder in trained.saved]
    asked = replace(job, out=str(out), options={"adapters": adapters})
    shares = json.loads(begin("judge", asked, Path(sys.executable)))
    begun = trained.marks[0].cpu
    marks = [trained.marks[number] for number, _ in trained.saved]
    return [(mark.rows, mark.cpu - begun, share) for mark, share in zip(marks, shares, strict=True)]


def _mean(rounds: Sequence[Curve]) -> Curve:
    """Point by point: all rounds have as many."""
    return [
        (
            round(statistics.fmean(each[0] for each in points)),
            statistics.fmean(each[1] for each in points),
            statistics.fmean(each[2] for each in points),
        )
        for points in zip(*rounds, strict=False)
    ]


def reached(curve: Curve, bar: float) -> str:
    """CPU-seconds at which a curve first reaches a share, between two judgements by a line."""
    before: tuple[float, float] | None = None
    for _, cpu, share in curve:
        if share >= bar:
            if before is None:
                return f"≤ {cpu:.0f}"
            part = (bar - before[1]) / (share - before[1])
            return f"{before[0] + part * (cpu - before[0]):.0f}"
        before = cpu, share
    return f"> {curve[-1][1]:.0f}"


def _print(args: argparse.Namespace, held_out: int, found: dict[str, Curve]) -> None:
    print(
        f"\n{processor()}, {args.threads} threads, load {os.getloadavg()[0]:.1f};"
        f" {args.precision}, LoRA r {args.rank} on all linears, {args.batch} rows a step,"
        f" learning rate {args.learning_rate:g}, {args.steps * args.batch} rows of {INTENTS}"
        f" intents, {held_out} held out; {args.rounds} round(s).\n"
    )
    bars = "".join(f" | CPU-s to {bar:.2f}" for bar in BARS)
    counts = range(args.every, args.steps * args.batch + 1, args.every)
    print(f"|{bars} | {' | '.join(f'after {count}' for count in counts)} | CPU-s in all |")
    print("|---" + "|--:" * (len(BARS) + len(counts) + 1) + "|")
    for key, curve in found.items():
        times = " | ".join(reached(curve, bar) for bar in BARS)
        shares = " | ".join(
            f"{curve[place][2]:.2f}" if place < len(curve) else "–" for place in range(len(counts))
        )
        print(f"| {CONTESTANTS[key].name} | {times} | {shares} | {curve[-1][1]:.0f} |")
    if args.svg and found:
        lines = {
            CONTESTANTS[key].name: [(cpu, share) for _, cpu, share in curve]
            for key, curve in found.items()
        }
        title = f"Held-out rows answered exactly ({INTENTS} intents)"
        args.svg.write_text(curves(title, "CPU-seconds of training", lines), encoding="utf-8")


if __name__ == "__main__":
    main()
