"""How the time to plan grows with the number of recipes, and what one plan costs from cold.

Makes a project of N recipes (each with values of its own over the shipped groups), plans all of
them in one process from cold and once more with nothing changed, and prints seconds, milliseconds
of CPU a recipe, the peak of memory and a line fitted through the sizes; beside it Hydra's own
Compose API over the recipes of the smallest size, which composes and does nothing else. Then one
cold `slmcompile plan` against a bare process that imports Hydra and pydantic and composes the same
recipe with Hydra's Compose API, a plan over a folder of weights for the first time and once more,
and a no-op `slmcompile run` against a no-op `dvc repro` where a finished project is named.

    python benchmarks/plan_scale.py --sizes 100 1000 10000 --rounds 3 [--finished FOLDER RECIPE]

Every figure is the median of the rounds; CPU seconds beside wall seconds, as machines are shared.
Processes find Python's bytecode of everything they import, as an installed package has it, also
where PYTHONDONTWRITEBYTECODE keeps a checkout's from being written.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
BARE = """
import sys
from hydra import compose, initialize_config_dir
from pydantic import BaseModel, Field  # `import pydantic` alone loads next to nothing
with initialize_config_dir(sys.argv[1] + "/recipes", version_base="1.3"):
    compose("tiny", overrides=["hydra.searchpath=[file://" + sys.argv[1] + "/conf]"])
"""
COMPOSED = """
import sys, time
from pathlib import Path
from hydra import compose, initialize_config_dir
root = sys.argv[1]
with initialize_config_dir(root + "/recipes", version_base="1.3"):
    began = time.process_time()
    names = [path.stem for path in sorted(Path(root, "recipes").glob("recipe-*.yaml"))]
    for name in names:
        compose(name, overrides=["hydra.searchpath=[file://" + root + "/conf]"])
    print((time.process_time() - began) / len(names))
"""
MANY = """
import json, resource, sys, time
from pathlib import Path
from slmcompile.explain.plan_all import survey
from slmcompile.recipe.project import Project

def rss():
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()

project = Project(Path(sys.argv[1]))
found = []
for _ in range(3):
    before, wall, cpu = rss(), time.perf_counter(), time.process_time()
    wrong = sum(each.error is not None for each in survey(project))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    took = [time.perf_counter() - wall, time.process_time() - cpu]
    found.append([*took, rss() - before, peak, wrong])
print(json.dumps(found))
"""


def make_project(folder: Path, count: int) -> Path:
    """A project with the shipped groups and ``count`` recipes."""
    for name in ("recipes", "conf", "data"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for number in range(count - len(list((folder / "recipes").glob("*.yaml")))):
        data = ("tiny-commands", "voice-intents")[number % 2]
        text = (
            f"defaults:\n  - model: tiny-llama\n  - data: {data}\n  - train: tiny\n"
            "  - eval: text\n  - target: [cpu-fp32, cpu-int8]\n  - track: none\n  - _self_\n"
            f"train:\n  seed: {number}\n  learning_rate: {1 + number % 7}e-4\n"
        )
        (folder / "recipes" / f"recipe-{number:04d}.yaml").write_text(text, encoding="utf-8")
    # Old files: a hash of one that was written this moment is not remembered.
    for path in folder.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    time.sleep(2.1)
    return folder


def add_folder_model(project: Path, gibibytes: int) -> None:
    """A folder of weights of that size, zeros all of them, and the recipe ``weights`` over it."""
    folder, width = project / "models" / "zeros", 512
    folder.mkdir(parents=True)
    rows = gibibytes * (1 << 30) // (2 * width)
    shapes = {"model.embed_tokens.weight": [rows, width], "model.norm.weight": [width]}
    layer = "model.layers.0"
    for name in ("q", "k", "v", "o"):
        shapes[f"{layer}.self_attn.{name}_proj.weight"] = [width, width]
    for name in ("gate", "up", "down"):
        shapes[f"{layer}.mlp.{name}_proj.weight"] = [width, width]
    for name in ("input", "post_attention"):
        shapes[f"{layer}.{name}_layernorm.weight"] = [width]
    header: dict[str, object] = {}
    end = 0
    for tensor, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": rows,
        "hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1,
        "num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (project / "conf" / "model").mkdir(parents=True, exist_ok=True)
    (project / "conf" / "model" / "zeros.yaml").write_text(
        f"name: zeros\nlicense: Apache-2.0\nparameters: {end // 2}\n"
        "source:\n  type: folder\n  path: models/zeros\n",
        encoding="utf-8",
    )
    (project / "recipes" / "weights.yaml").write_text(
        "defaults:\n  - model: zeros\n  - data: tiny-commands\n  - train: tiny\n  - eval: text\n"
        "  - target: [cpu-fp32]\n  - track: none\n  - _self_\n",
        encoding="utf-8",
    )
    time.sleep(2.1)  # as in make_project


def weights(project: Path, gibibytes: int, python: str, rounds: int) -> None:
    """Prints the time of a plan over a folder of weights, for the first time and once more."""
    add_folder_model(project, gibibytes)
    words = [python, "-m", "slmcompile", "plan", "weights"]
    found: tuple[list[tuple[float, float]], ...] = ([], [])
    for _ in range(rounds):
        shutil.rmtree(project / ".slmcompile", ignore_errors=True)
        for times in found:
            times.append(timed(words, project))
    (first, first_cpu), (again, again_cpu) = (
        [statistics.median(each[column] for each in times) for column in range(2)]
        for times in found
    )
    print(
        f"plan over {gibibytes} GiB of weights: {first:.2f} s ({first_cpu:.2f} CPU) the first time,"
        f" {again:.2f} s ({again_cpu:.2f} CPU) again"
    )


def timed(words: Sequence[str], cwd: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(words, cwd=cwd, check=True, capture_output=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def fit(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line."""
    slope, intercept = statistics.linear_regression(xs, ys)
    mean = statistics.fmean(ys)
    rest = sum((y - slope * x - intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    total = sum((y - mean) ** 2 for y in ys)
    return slope, intercept, 1 - rest / total if total else 1.0


def scale(sizes: Sequence[int], rounds: int) -> None:
    """Prints the table of sizes and the fits."""
    cold: list[float] = []
    same: list[float] = []
    print("recipes   cold s (CPU)     unchanged s (CPU)   ms CPU a recipe, each    peak RSS, each")
    for size in sizes:
        runs: list[list[list[float]]] = []
        with tempfile.TemporaryDirectory() as folder:
            project = make_project(Path(folder).resolve() / "project", size)
            for _ in range(rounds):
                done = subprocess.run(
                    [sys.executable, "-c", MANY, str(project)],
                    text=True, capture_output=True, check=True,
                )  # fmt: skip
                runs.append(json.loads(done.stdout))
            if size == min(sizes):
                bare = subprocess.run(
                    [sys.executable, "-c", COMPOSED, str(project)],
                    text=True, capture_output=True, check=True,
                )  # fmt: skip
                print(f"Hydra's compose alone: {float(bare.stdout) * 1000:.1f} ms CPU a recipe")
        if any(run[0][-1] for run in runs):
            raise SystemExit("a recipe of the benchmark could not be planned")
        middle = [
            [statistics.median(run[phase][column] for run in runs) for column in range(4)]
            for phase in range(3)
        ]
        cold.append(middle[0][1])
        same.append(middle[1][1])
        print(
            f"{size:7d}   {middle[0][0]:6.2f} ({middle[0][1]:6.2f})"
            f"  {middle[1][0]:8.2f} ({middle[1][1]:6.2f})"
            f"     {middle[0][1] / size * 1000:6.2f} / {middle[1][1] / size * 1000:5.2f}"
            f"       {middle[0][3] / 2**20:7.0f} / {middle[2][3] / 2**20:4.0f} MB",
            flush=True,
        )
    if len(sizes) > 2:
        for name, ys in (("cold", cold), ("unchanged", same)):
            slope, intercept, r2 = fit([float(size) for size in sizes], ys)
            print(
                f"fit, {name}: {slope * 1000:.2f} ms CPU a recipe + {intercept:.2f} s, R² {r2:.4f}"
            )


def compare(name: str, ours: list[str], theirs: list[str], cwd: Path, rounds: int) -> None:
    """Prints two commands' times in turns and their ratio."""
    found: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    for turn in range(rounds + 1):
        for index, words in enumerate((ours, theirs)):
            taken = timed(words, cwd)
            if turn:  # the first writes bytecode
                found[index].append(taken)
    (wall, cpu), (their_wall, their_cpu) = (
        [statistics.median(run[column] for run in found[index]) for column in range(2)]
        for index in range(2)
    )
    print(
        f"{name}: {wall:.2f} s ({cpu:.2f} CPU) against {their_wall:.2f} s ({their_cpu:.2f} CPU):"
        f" {wall / their_wall:.2f}x ({cpu / their_cpu:.2f}x CPU)"
    )


def measure(arguments: argparse.Namespace, python: str) -> None:
    """Prints every figure."""
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder).resolve() / "project", 0)
        plan = [python, "-m", "slmcompile", "plan", "tiny"]
        compare(
            "plan against bare Hydra + pydantic", plan,
            [python, "-c", BARE, str(project)], project, arguments.rounds,
        )  # fmt: skip
        compare(
            "--help against bare python", [python, "-m", "slmcompile", "--help"],
            [python, "-c", "import argparse"], project, arguments.rounds,
        )  # fmt: skip
        if arguments.weights:
            weights(project, arguments.weights, python, arguments.rounds)
    if arguments.finished:
        folder, recipe = arguments.finished
        compare(
            "no-op run against no-op dvc repro",
            [python, "-m", "slmcompile", "run", recipe],
            [python, "-m", "dvc", "repro", f"pipelines/{recipe}/dvc.yaml"],
            Path(folder), arguments.rounds,
        )  # fmt: skip
    if arguments.sizes:
        scale(arguments.sizes, arguments.rounds)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=int, default=2, help="GiB of a folder model; 0: none")
    parser.add_argument("--finished", nargs=2, metavar=("FOLDER", "RECIPE"))
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    python = sys.executable
    with tempfile.TemporaryDirectory() as bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        measure(arguments, python)


if __name__ == "__main__":
    main()
