"""What check 7 predicts of memory, and what training and evaluation then take.

Every recipe trains two steps (forty where rows are of varied lengths) with slmcompile's own loop in
a process of its own, with a validation between and one behind them, and then evaluates what it
trained with the ``answer`` stage; the kernel's largest resident size (VmHWM) is set against the
interval that a plan shows. The base model is the one of the quickstart, fetched as its recipe says,
or any folder of a Llama.

    python benchmarks/memory_prediction.py                     # eighteen recipes, about 22 minutes
    python benchmarks/memory_prediction.py --base FOLDER --only lora/64 qlora/256
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.base.facts import read_model_facts
from slmcompile.console.progress import Silent
from slmcompile.data.report_facts import DataFacts
from slmcompile.data.store import IGNORED, Row, read_split, write_split
from slmcompile.estimate.memory import decoder_of, evaluation_memory, training_memory
from slmcompile.estimate.peak import rows_of
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture
from slmcompile.files.artifact import write_json
from slmcompile.machine.process import prepare_to_compute, thread_count
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Eval, Recipe
from slmcompile.shapes.interval import Interval
from slmcompile.shapes.splits import SPLITS

ROOT = Path(__file__).parent.parent
MEASURED = ("lora", "qlora", "full")
BATCHES = {64: 4, 256: 4, 1024: 2}
"""Rows of a batch, by their length in tokens."""

TRAINED = 0.25
"""Share of a row that is answer."""

STEPS, STEPS_VARIED, TEST_ROWS, NEW_TOKENS = 2, 40, 2, 8


def settings(name: str) -> tuple[Train, int]:
    """Train section and length of ``method/length[/checkpointing][/bf16][/varied]``."""
    method, length, *more = name.split("/")
    config = METHODS[method].section(
        method=method,
        max_steps=STEPS_VARIED if "varied" in more else STEPS,
        eval_steps=STEPS_VARIED // 2 if "varied" in more else 1,
        learning_rate=1e-5,
        per_device_train_batch_size=BATCHES[int(length)],
        per_device_eval_batch_size=BATCHES[int(length)],
        precision="bf16" if "bf16" in more else "fp32",
        gradient_checkpointing="checkpointing" in more,
    )
    return config, int(length)


def write_rows(folder: Path, longest: int, config: Train, vocabulary: int) -> None:
    """Splits of rows, of one length where there are two steps and of a third of it up otherwise."""
    draw = random.Random(longest)
    batch = config.per_device_train_batch_size
    shortest = longest if config.max_steps == STEPS else longest // 3
    for split, count in (
        ("train", config.max_steps * batch),
        ("validation", batch),
        ("test", TEST_ROWS),
    ):
        rows = []
        for number in range(count):
            length = draw.randint(shortest, longest)
            prompt = length - int(length * TRAINED)
            ids = [draw.randrange(vocabulary) for _ in range(length)]
            labels = [IGNORED] * prompt + ids[prompt:]
            rows.append(Row(number, "prompt", "answer", "", ids[:prompt], ids, labels))
        write_split(folder, split, rows)


def report_of(data: Path) -> DataFacts:
    """What the ``data`` stage would report of these rows, as far as the prediction reads it."""
    from slmcompile.data.describe import lengths

    splits = {split: read_split(data, split) for split in SPLITS}
    every = [row for rows in splits.values() for row in rows]
    return DataFacts(
        {
            "counts": {split: len(rows) for split, rows in splits.items()},
            "lengths": {
                "prompt": lengths([len(row.prompt_ids) for row in every]),
                "answer": lengths([len(row.input_ids) - len(row.prompt_ids) for row in every]),
                "total": lengths([len(row.input_ids) for row in every]),
            },
        }
    )


def predicted(recipe: Recipe, base: Path, data: Path) -> tuple[Interval, Interval]:
    """Intervals of training and evaluation, from the folder's headers and the rows' lengths."""
    facts = read_model_facts(base, base.name)
    if facts is None:
        raise SystemExit(f"{base}: not a model folder")
    model = architecture(facts.config, facts.tensors, facts.dtypes)
    decoder = decoder_of(model)
    if decoder is None:
        raise SystemExit(f"{base}: config.json does not name the sizes of its layers")
    rows, train = rows_of(recipe, report_of(data)), recipe.train
    return (
        training_memory(train, model, decoder, trainable(train, model), rows, train.max_steps),
        evaluation_memory(recipe.eval, train, model, decoder, rows),
    )


def child(order: Path) -> None:
    """Trains or evaluates as a file says, and writes its largest resident size into it."""
    prepare_to_compute()
    told: dict[str, Any] = json.loads(order.read_text(encoding="utf-8"))
    folder, base = Path(told["folder"]), Path(told["base"])
    run = _train if told["what"] == "train" else _evaluate
    write_json(order, {"peak": run(folder, base, settings(told["name"])[0])})


def _train(folder: Path, base: Path, config: Train) -> int:
    import torch

    from slmcompile.models.merge import METHOD_FILE
    from slmcompile.training.group import Member
    from slmcompile.training.loop import train
    from slmcompile.training.outputs import ADAPTER, MODEL
    from slmcompile.training.record import TrainRuntime

    out = folder / "trained" / (MODEL if config.method == "full" else ADAPTER)
    out.mkdir(parents=True)
    runtime = TrainRuntime(save_steps=config.max_steps)
    scratch = folder / "scratch"
    told = (runtime, Silent(), lambda *_: None, torch.device("cpu"))
    record = train(Member("", config, folder / "data", out, scratch, "benchmark"), base, *told)
    if config.method == "bottleneck":
        write_json(out / METHOD_FILE, {"method": config.method})
    return record.peak_memory_bytes


def _evaluate(folder: Path, base: Path, config: Train) -> int:
    from slmcompile.stages.answer import run
    from slmcompile.stages.context import Context

    out = folder / "measured"
    out.mkdir()
    evaluation = Eval(max_new_tokens=NEW_TOKENS)
    context = Context(
        project=folder,
        stage="benchmark/answer-torch",
        config={
            "artifact": "torch",
            "precision": config.precision,
            "max_new_tokens": evaluation.max_new_tokens,
            "limit": None,
            "seed": 0,
            "labelled": False,
            "batch_size": evaluation.batch_size,
            "num_threads": config.num_threads,
        },
        inputs={"data": folder / "data", "base": base, "train": folder / "trained"},
        manifests={},
        out=out,
        scratch=folder / "scratch",
        fingerprint="",
        runtime={},
        progress=Silent(),
    )
    run(context)
    return resident()


def resident() -> int:
    """Largest resident size of this process so far, bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise SystemExit("the largest resident size is Linux's to tell")
    return int(found.group(1)) * 1024


def measured(what: str, name: str, folder: Path, base: Path) -> int:
    """Largest resident size of a process that does nothing else."""
    order = folder / f"{what}.json"
    told = {"what": what, "name": name, "folder": str(folder), "base": str(base)}
    order.write_text(json.dumps(told), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, __file__, "--child", str(order)], env=environment, check=True)
    return int(json.loads(order.read_text(encoding="utf-8"))["peak"])


def fetched(folder: Path) -> Path:
    """The quickstart's base model, made by its source."""
    from slmcompile.base.fetch import fetch

    source = compose(Project(ROOT), "quickstart", ()).recipe.model.source
    base = folder / "base"
    base.mkdir()
    fetch(source, ROOT, base, Silent())
    return base


def line(name: str, what: str, interval: Interval, peak: int) -> str:
    """One row of the table; sizes in MB of 10⁶ bytes."""
    inside = "yes" if peak in interval else "NO"
    return (
        f"{name:32}{what:12}{interval.low / 1e6:8.0f} –{interval.high / 1e6:6.0f}"
        f"{peak / 1e6:10.0f}{inside:>8}{interval.width:8.2f}"
    )


def measure(names: Sequence[str], base: Path) -> bool:
    """Prints a row for each; returns whether all lie inside intervals no wider than 1.5."""
    recipe = compose(Project(ROOT), "quickstart", ()).recipe
    vocabulary = json.loads((base / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    print(f"{'recipe':32}{'':12}{'predicted MB':>16}{'measured':>10}{'inside':>8}{'width':>8}")
    good = True
    for name in names:
        config, length = settings(name)
        evaluation = Eval(max_new_tokens=NEW_TOKENS)
        asked = recipe.model_copy(update={"train": config, "eval": evaluation})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "data").mkdir()
            write_rows(folder / "data", length, config, vocabulary)
            training, evaluating = predicted(asked, base, folder / "data")
            for what, interval in (("train", training), ("evaluate", evaluating)):
                peak = measured(what, name, folder, base)
                print(line(name, what, interval, peak), flush=True)
                good = good and peak in interval and interval.width <= 1.5
    return good


def main() -> None:
    """Measures and prints."""
    every = [f"{method}/{length}" for length in BATCHES for method in MEASURED]
    every += ["lora/1024/checkpointing", "lora/64/bf16", "lora/256/bf16"]
    every += ["bottleneck/256", "bottleneck/1024", "bottleneck/1024/checkpointing"]
    every += ["lora/64/bf16/varied", "qlora/64/varied", "full/64/varied"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="folder of a base model")
    parser.add_argument(
        "--only", nargs="+", default=every, help="method/length[/checkpointing][/bf16][/varied]"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    print(
        f"{thread_count('auto')} threads, {STEPS} steps ({STEPS_VARIED} if varied),"
        f" batches {BATCHES}, fp32 unless said"
    )
    with tempfile.TemporaryDirectory() as folder:
        good = measure(args.only, args.base or fetched(Path(folder)))
    print("all inside, none wider than 1.5" if good else "NOT all inside or too wide")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
