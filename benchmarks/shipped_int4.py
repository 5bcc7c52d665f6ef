"""What of a model's training is left in the int4 folder that ships, merged into it and beside it.

Trains a recipe twice, on the same rows: over the base at full precision, from where the adapter is
merged into int8 and int4, and over the int4 base, beside whose weights it ships as it was trained.
In both the 1,500 sentences of data/voice-intents/held_out.jsonl stand in the place of the 196 test
rows, which are of the same templates; training and validation rows are the recipe's own, which is
checked. Other adapters' data keep their test rows. Prints what was measured as Markdown, and
whether the goals are reached, which changes nothing about the exit code. Intervals of exact match
are over rows; that of the difference is also given over templates, as rows of one are alike.

    python benchmarks/shipped_int4.py                       # the quickstart
    python benchmarks/shipped_int4.py --recipe assistant

Overrides go to both trainings; to see only that it works: ``model=tiny-llama train=tiny
data.max_length=256 eval.max_new_tokens=96 eval.limit=60``.

It works in a project of its own. With --project FOLDER that is kept, and what is there already is
not made again. Opening is timed in processes of their own that take turns, up to the first token of
every adapter, with the files in the page cache: medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opening import Shipped, opened_apart
from trained_twice import (
    BEFORE,
    HELD_OUT,
    INT4,
    OVER,
    VARIANTS,
    digests,
    make_project,
    run,
)

from slmcompile import api
from slmcompile.base.facts import read_model_facts
from slmcompile.data.store import read_split
from slmcompile.facts.architecture import architecture
from slmcompile.machine.device import cpu_name
from slmcompile.machine.process import thread_count
from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.definition import Plan
from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.paired import Difference, of_right, of_sums
from slmcompile.stages.answer import MEASURED
from slmcompile.stages.scores import read_predictions

MOST_NLL, LOWEST_DIFFERENCE, LEAST_SPEED = 1.05, -0.02, 0.9
MOST_SIZE = {False: 0.25, True: 0.30}
"""Share of the fp32 weights: of one adapter, of several."""


@dataclass(frozen=True)
class Answered:
    """What an artifact answered: rows of ``predictions.jsonl`` and ``measured.json``."""

    rows: Sequence[Mapping[str, Any]]
    measured: Mapping[str, Any]

    @property
    def right(self) -> list[bool]:
        """Of each row."""
        return [bool(row["correct"]) for row in self.rows]

    @property
    def nll(self) -> float:
        """Nats a token of the references."""
        total: float = sum(row["log_likelihood"] for row in self.rows)
        tokens: int = sum(row["tokens"] for row in self.rows)
        return -total / tokens


def answered(root: Path, plan: Plan, artifact: str, member: str) -> Answered:
    """What an artifact of one adapter answered."""
    rows = read_predictions(root / plan.stage("score", member=member).out / member)[artifact]
    measured = root / plan.stage("answer", artifact, member).out / MEASURED
    return Answered(rows, json.loads(measured.read_text(encoding="utf-8")))


def shipped(root: Path, plan: Plan, target: str) -> Shipped:
    """The folders of a target, and the adapters of one with several."""
    exports = [view.stage("export", target) for view in plan.views.values()]
    beside = [member for member in plan.members if not exports[0].member]
    return Shipped([root / out for out in dict.fromkeys(each.out for each in exports)], beside)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; all columns but the first two to the right."""
    marks = ["--" if at < 2 else "--:" for at in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, marks, *rows])


def by_template(one: Answered, other: Answered, templates: Mapping[int, str]) -> Difference:
    """The one's exact match minus the other's, with templates drawn in the place of rows."""

    def sums(each: Answered) -> list[list[float]]:
        """Rows that are right, and rows, of each template."""
        found: dict[str, list[float]] = {}
        for row, right in zip(each.rows, each.right, strict=True):
            of_template = found.setdefault(templates[row["id"]], [0.0, 0.0])
            of_template[0] += right
            of_template[1] += 1
        return list(found.values())

    return of_sums(sums(one), sums(other), lambda all_: all_[..., 0] / all_[..., 1])


def templates_of(root: Path, data: Path) -> dict[int, str]:
    """Of the rows that were held out, by id; empty where other rows are the test."""
    text = (root / HELD_OUT).read_text(encoding="utf-8")
    lines, rows = [json.loads(line) for line in text.splitlines()], read_split(data, "test")
    if [line["answer"] for line in lines] != [row.completion for row in rows]:
        return {}
    return {row.id: line["template"] for row, line in zip(rows, lines, strict=True)}


def goal(what: str, figure: str, *, reached: bool) -> None:
    """Prints a line of the list."""
    print(f"- {'reached' if reached else '**missed**'}: {what}: {figure}")


def answers(root: Path, plans: Mapping[str, Plan]) -> dict[tuple[str, str, str], Answered]:
    """By adapter, training and artifact."""
    return {
        (member, variant, artifact): answered(root, plan, artifact, member)
        for member in plans[OVER].views
        for variant, plan in plans.items()
        for artifact in (TUNED, *plan.effective["target"])
    }


def tell_answers(found: Mapping[tuple[str, str, str], Answered]) -> None:
    """A line an artifact: size and quality, and its speed while it was measured."""
    rows = []
    for (member, variant, artifact), each in found.items():
        share, count = statistics.mean(each.right), len(each.rows)
        low, high = wilson(share, count)
        rows.append(
            (
                *((member,) if member else ()),
                variant,
                artifact,
                f"{each.measured['size_bytes'] / 1e6:.0f}",
                f"{count}",
                f"{share:.3f} ({low:.3f}–{high:.3f})",
                f"{each.nll:.4f}",
                f"{each.measured['tokens_per_second']:.0f}",
            )
        )
    head = ["trained over", "artifact", "MB", "rows", "exact match (95 %)", "nll a token"]
    whose = ["adapter"] if len(rows[0]) > len(head) + 1 else []
    print(table([*whose, *head, "tokens/s"], rows), end="\n\n")


def tell_opening(
    ships: Mapping[tuple[str, str], Shipped], fp32: float, rounds: int
) -> dict[tuple[str, str], float]:
    """A line a way to ship: what there is to load, and what opening it takes; returns speeds."""
    found = opened_apart(ships, rounds)
    rows = [
        (
            *key,
            f"{len(each.folders)}",
            f"{each.size / 1e6:.0f}",
            f"{each.size / fp32:.1%}",
            f"{found[key].seconds:.2f}",
            f"{found[key].peak_bytes / 1e6:.0f}",
            f"{found[key].tokens_per_second:.0f}",
        )
        for key, each in ships.items()
    ]
    head = ("trained over", "target", "folders", "MB", "of fp32 weights", "opens in s", "peak MB")
    print(table((*head, "tokens/s"), rows), end="\n\n")
    return {key: each.tokens_per_second for key, each in found.items()}


def tell_goals(root: Path, plan: Plan, found: Mapping[tuple[str, str, str], Answered]) -> None:
    """Of every adapter, whether int4 is as good as what was trained at full precision."""
    for member in plan.views:
        templates = templates_of(root, root / plan.stage("data", member=member).out)
        ships, trained = found[member, OVER, INT4], found[member, BEFORE, TUNED]
        of = f"{member}, " if member else ""
        if [row["id"] for row in ships.rows] != [row["id"] for row in trained.rows]:
            raise SystemExit(f"{member}: not the same rows were answered")
        ratio = ships.nll / trained.nll
        what = f"{of}nll of int4 at most {MOST_NLL:.2f} of torch's at full precision"
        goal(what, f"{ratio:.3f}", reached=ratio <= MOST_NLL)
        apart = of_right(ships.right, trained.right)
        figure = f"{apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), p {apart.p:.2g}"
        what = f"{of}exact match less torch's on the same {len(ships.rows)} rows"
        if not templates:
            print(f"- no goal, of so few rows: {what}: {figure}")
            continue
        wording = by_template(ships, trained, templates)
        figure += f"; templates drawn: {wording.low:+.3f} to {wording.high:+.3f}"
        what += f", lower bound at least {LOWEST_DIFFERENCE:+.2f}"
        goal(what, figure, reached=apart.low >= LOWEST_DIFFERENCE)


def measure(root: Path, recipe: str, overrides: Sequence[str], rounds: int) -> None:
    """Runs what has not run, and prints everything."""
    own = make_project(root, recipe, overrides)
    spent = {variant: run(root, variant, overrides) for variant in VARIANTS}
    plans = {variant: api.compile(variant, overrides, project=root) for variant in VARIANTS}
    if not all(digests(root, plan) == own for plan in plans.values()):
        raise SystemExit(f"{recipe}: what was trained on are not the recipe's own rows")
    facts = read_model_facts(root / plans[OVER].stage("base").out, "base")
    assert facts is not None
    fp32 = 4.0 * architecture(facts.config, facts.tensors, facts.dtypes).parameters
    seconds = ", ".join(f"{variant} {each:.0f} s" for variant, each in spent.items())
    print(
        f"{recipe}{''.join(f' {each}' for each in overrides)}: {cpu_name()},"
        f" {thread_count('auto')} threads, load {os.getloadavg()[0]:.1f}; this run: {seconds};"
        f" fp32 weights {fp32 / 1e6:.0f} MB",
        end="\n\n",
    )
    found = answers(root, plans)
    tell_answers(found)
    ships = {
        (variant, target): shipped(root, plan, target)
        for variant, plan in plans.items()
        for target in plan.effective["target"]
    }
    speeds = tell_opening(ships, fp32, rounds)
    tell_goals(root, plans[OVER], found)
    several = bool(plans[OVER].members)
    share, most = ships[OVER, INT4].size / fp32, MOST_SIZE[several]
    what = "size with all adapters" if several else "size"
    goal(f"{what} at most {most:.0%} of fp32", f"{share:.1%}", reached=share <= most)
    speed = speeds[OVER, INT4] / speeds[BEFORE, INT4]
    what = f"tokens/s at least {LEAST_SPEED:.2f} of merged int4's"
    goal(what, f"{speed:.2f}", reached=speed >= LEAST_SPEED)


def main() -> None:
    """Measures, in a folder that is kept or goes away."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--project", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (asked.project or Path(temporary)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        measure(root, asked.recipe, asked.overrides, asked.rounds)


if __name__ == "__main__":
    main()
