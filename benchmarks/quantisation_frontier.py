"""Size, likelihood, task and speed of one trained model, quantised by the builder and by measure.

Takes a project in which a recipe's adapter is trained, merged into the base and not over a
quantised one, and builds that one model in every way that is listed: the builder's own precisions
and algorithms, and ``precision: mixed`` at several sizes, by one measurement on validation rows.
Each folder answers all test rows as it ships. Prints a table in the order of sizes, and which of
the builder's points a mixed one beats: no larger, and no higher nll.

    python benchmarks/quantisation_frontier.py PROJECT RECIPE
    python benchmarks/quantisation_frontier.py PROJECT RECIPE --only mixed-6 --only int4-k_quant

What is built and measured is kept in --out and not made again. Speeds are those of the machine at
the time: they compare within one run, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.progress import Silent
from slmcompile.data.sample import sample
from slmcompile.data.store import Row, read_split
from slmcompile.execution.sync import compile_recipe
from slmcompile.export.export import export
from slmcompile.export.probe import ROWS, asked_of, probe
from slmcompile.files.artifact import write_json
from slmcompile.inference import onnx_model
from slmcompile.machine.process import thread_count
from slmcompile.models.merge import load_merged
from slmcompile.plans.artifacts import TUNED
from slmcompile.providers.cpu import CpuTarget
from slmcompile.recipe.project import Project
from slmcompile.scoring.exact_match import is_correct
from slmcompile.training.outputs import trained_weights

BUILDERS: Mapping[str, Mapping[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "int8": {"precision": "int8"},
    **{
        f"int4-{algorithm}": {"precision": "int4", "int4_algo_config": algorithm}
        for algorithm in ("default", "rtn", "k_quant", "k_quant_mixed", "k_quant_last")
    },
    "int4-rtn-asymmetric": {
        "precision": "int4", "int4_algo_config": "rtn", "int4_is_symmetric": False,
    },
    "int4-block-16": {"precision": "int4", "int4_block_size": 16},
}  # fmt: skip
MIXED = (5.2, 5.5, 6.0, 6.5, 7.0, 12.0)
SPEED_TOKENS = 64


@dataclass(frozen=True)
class Trained:
    """What a recipe of a project has trained, and its rows."""

    base: Path
    weights: Path
    data: Path
    task: str
    seed: int
    labelled: bool
    limit: int

    @classmethod
    def of(cls, root: Path, recipe: str, data: Path | None) -> Trained:
        """The outputs of a plan's stages, as they lie."""
        compiled = compile_recipe(Project(root), recipe)
        folders = {kind: root / compiled.stage(kind).out for kind in ("base", "data", "train")}
        asked = compiled.stage("answer", TUNED).config
        return cls(
            folders["base"],
            trained_weights(folders["train"]),
            data or folders["data"],
            compiled.effective["data"]["task"],
            asked["seed"],
            asked["labelled"],
            asked["max_new_tokens"],
        )

    def probes(self, out: Path) -> Mapping[str, Any]:
        """What 4 bits cost, measured once."""
        file = out / "probes.json"
        if not file.exists():
            validation = read_split(self.data, "validation")
            rows = sample(validation, ROWS, self.seed, labelled=self.labelled)
            model = load_merged(self.base, self.weights)
            rows = asked_of(rows, model.config.vocab_size)
            found = probe(model, rows, 32, Silent())
            write_json(file, {"rows": len(rows), **found})
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return told


def measured(folder: Path, rows: Sequence[Row], trained: Trained) -> dict[str, Any]:
    """What an exported folder is worth on rows."""
    model = onnx_model.load(folder, thread_count("auto"))
    answers = model.generate(
        [row.prompt_ids for row in rows], trained.limit, 32, lambda _done: None
    )
    right = [
        is_correct(trained.task, model.decode(answer.ids), row.completion)
        for answer, row in zip(answers, rows, strict=True)
    ]
    scored = model.log_likelihood(rows)
    return {
        "nll": -sum(total for total, _ in scored) / sum(count for _, count in scored),
        "exact_match": sum(right) / len(right),
        "tokens_per_second": model.decode_speed(rows[0].prompt_ids, SPEED_TOKENS),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def point(trained: Trained, name: str, target: CpuTarget, out: Path) -> dict[str, Any]:
    """One way of building it: what it is worth, and of a mixture what was chosen."""
    file = out / f"{name}.json"
    if not file.exists():
        folder, scratch = out / name, out / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        scratch.mkdir(exist_ok=True)
        rows = read_split(trained.data, "test")
        probes = trained.probes(out) if target.precision == "mixed" else None
        info = export(
            target, trained.base, trained.weights, trained.data / "prompt.json", rows[:2],
            folder, scratch, Silent(), probes=probes,
        )  # fmt: skip
        found = measured(folder, rows, trained)
        write_json(file, {**found, "mixture": info.get("mixture")})
        shutil.rmtree(folder)
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def told(points: Mapping[str, Mapping[str, Any]]) -> str:
    """A table by size, and what a mixture beats."""
    lines = ["| | MB | bits a weight | nll | exact match | tokens/s |", "|--|--:|--:|--:|--:|--:|"]
    for name, each in sorted(points.items(), key=lambda item: item[1]["bytes"]):
        bits = each["mixture"] and f"{each['mixture']['bits_per_weight']:.2f}"
        lines.append(
            f"| {name} | {each['bytes'] / 1e6:.0f} | {bits or ''} | {each['nll']:.4f}"
            f" | {each['exact_match']:.3f} | {each['tokens_per_second']:.0f} |"
        )
    for name, own in points.items():
        beaten = [
            other
            for other, each in points.items()
            if own["mixture"]
            and not each["mixture"]
            and each["bytes"] >= own["bytes"]
            and each["nll"] >= own["nll"]
        ]
        if beaten:
            lines.append(f"{name} is no larger and no less likely than {', '.join(beaten)}")
    return "\n".join(lines)


def main() -> None:
    """Builds, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, default=Path("quantisation_frontier"))
    parser.add_argument(
        "--data", type=Path, help="output of a data stage, in place of the recipe's"
    )
    parser.add_argument("--only", action="append", help="one of the points; again for others")
    given = parser.parse_args()
    trained = Trained.of(given.project.resolve(), given.recipe, given.data)
    targets = {name: CpuTarget(**target) for name, target in BUILDERS.items()} | {
        f"mixed-{bits:g}": CpuTarget(precision="mixed", bits_per_weight=bits) for bits in MIXED
    }
    given.out.mkdir(parents=True, exist_ok=True)
    points = {}
    for name, target in targets.items():
        if not given.only or name in given.only:
            points[name] = point(trained, name, target, given.out)
            assert math.isfinite(points[name]["nll"])
            print(f"{name}: {points[name]['nll']:.4f}", flush=True)
    print(told(points))


if __name__ == "__main__":
    main()
