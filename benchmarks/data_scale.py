"""How the data stage grows with its rows, beside `datasets.map` that tokenizes the same rows.

Makes N short rows from a seed (a command of 60 characters and an object of three keys, 53 tokens by
SmolLM2's tokenizer) and runs both over them in turns, each in processes of its own: the data stage
with all its checks, splits and report, and a script as the documentation of `datasets` has it:
`load_dataset("json")`, `map(batched=True, num_proc=cores)` with prompt and answer encoded apart and
labels masked over the prompt, `train_test_split` twice, `to_parquet`. That one drops no repeats,
proves no mask, keeps no prompt out of two splits and looks for no leak.

    python benchmarks/data_scale.py BASE_FOLDER --sizes 10000 100000 1000000 [--cores 1 2]

BASE_FOLDER holds a base model's tokenizer.json and config.json. Seconds and CPU-seconds are of all
processes from start to end, so that imports count. Memory is the most that all processes of a
contestant have together at one time, in proportional set size (a page that several share counts
once), looked at every tenth of a second; beside it what is left of that without what the same
program takes for a hundred rows, which is its libraries and tokenizer. A line through the sizes
gives what ten million rows would take.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PROMPT = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
OURS = """
import json, os, sys
from pathlib import Path
base, rows, out, cores = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
from slmcompile.console.progress import Silent
from slmcompile.data.prepare import prepare
from slmcompile.machine.process import prepare_to_compute
from slmcompile.recipe.schema import Data
prepare_to_compute()
config = {
    "name": "scale", "task": "extraction", "label": "intent", "max_length": 128,
    "source": {"type": "file", "path": Path(rows).name}, "split": {"strategy": "stratified"},
    "template": {"type": "text", "prompt": %r, "completion": "{answer}"},
}
prepare(
    Data.model_validate_json(json.dumps(config)), Path(rows).parent, Path(base), Path(out), Silent()
)
"""
THEIRS = """
import os, sys
base, rows, out, cores = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
os.environ["HF_DATASETS_CACHE"] = out + "/cache"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # beside num_proc, as its documentation says
import datasets
from transformers import PreTrainedTokenizerFast
datasets.disable_progress_bars()
tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
prompt = %r
def encode(batch):
    prompts = tokenizer([prompt.format(text=text) for text in batch["text"]])["input_ids"]
    answers = tokenizer(batch["answer"])["input_ids"]
    end = [tokenizer.eos_token_id]
    return {
        "prompt_ids": prompts,
        "input_ids": [a + b + end for a, b in zip(prompts, answers)],
        "labels": [[-100] * len(a) + b + end for a, b in zip(prompts, answers)],
    }
found = datasets.load_dataset("json", data_files=rows, split="train")
cores = int(cores)
found = found.map(encode, batched=True, num_proc=cores if cores > 1 else None)
rest = found.train_test_split(test_size=0.1, seed=0)
first = rest["train"].train_test_split(test_size=1 / 9, seed=0)
for name, split in (("train", first["train"]), ("validation", first["test"]),
                    ("test", rest["test"])):
    split.to_parquet(f"{out}/{name}.parquet")
"""


@dataclass(frozen=True)
class Taken:
    """What a run took: seconds, CPU-seconds of all its processes, and bytes at its peak."""

    wall: float
    cpu: float
    peak: int


def write_rows(path: Path, count: int, seed: int) -> None:
    """Short rows, a few in a hundred of them repeats."""
    rng = random.Random(seed)
    rooms = ("kitchen", "office", "hall", "bedroom", "garage", "attic", "cellar", "garden")
    things = ("light", "fan", "blind", "heater", "speaker", "camera", "lock", "kettle")
    hows = ("turn on", "turn off", "dim", "brighten", "open", "close", "start", "stop")
    text = ""
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            if not text or rng.random() > 0.02:
                how, room, thing = rng.choice(hows), rng.choice(rooms), rng.choice(things)
                level, number = rng.randrange(100_000), rng.randrange(10**6)
                asked = f"{how} the {thing} in {room} {level % 1000} at {level} please {number}"
                answer = {"intent": how.replace(" ", "_"), "area": room, "level": level}
                row = {"text": asked, "answer": json.dumps(answer, separators=(",", ":"))}
                text = json.dumps(row) + "\n"
            stream.write(text)


def run(program: str, words: Sequence[str]) -> Taken:
    """Runs a program and looks at what it and its processes take."""
    before, began = os.times(), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    peak = 0
    with subprocess.Popen([sys.executable, "-c", program, *words], env=environment) as running:
        while running.poll() is None:
            peak = max(peak, sum(map(shared_out, family(running.pid))))
            time.sleep(0.1)
    if running.returncode:
        raise SystemExit(running.returncode)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Taken(time.perf_counter() - began, cpu, peak)


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, path.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def shared_out(pid: int) -> int:
    """Proportional set size of a process in bytes; nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def digest(out: Path) -> str:
    """Of the splits and the report that were written."""
    found = hashlib.sha256()
    for path in sorted(out.iterdir()):
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()[:12]


def measured(program: str, base: Path, count: int, cores: int, seed: int) -> tuple[Taken, str]:
    """One run over so many rows, and a digest of what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "rows.jsonl"), Path(folder, "out")
        write_rows(rows, count, seed)
        out.mkdir()
        taken = run(program, [str(base), str(rows), str(out), str(cores)])
        return taken, digest(out)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--cores", type=int, nargs="+", default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    contestants = {"slmcompile": OURS % PROMPT, "datasets.map": THEIRS % PROMPT}
    for cores in arguments.cores:
        few = {
            name: measured(program, arguments.base, 100, cores, arguments.seed)[0].peak
            for name, program in contestants.items()
        }
        print(f"{cores} cores; libraries: " + ", ".join(
            f"{name} {peak / 2**20:.0f} MB" for name, peak in few.items()
        ))  # fmt: skip
        print("     rows                    s    CPU s   us CPU/row   peak MB   beside libraries")
        points: dict[str, list[Taken]] = {name: [] for name in contestants}
        for size in arguments.sizes:
            runs: dict[str, list[Taken]] = {name: [] for name in contestants}
            written: set[str] = set()
            for _ in range(arguments.rounds):
                for name, program in contestants.items():
                    taken, told = measured(program, arguments.base, size, cores, arguments.seed)
                    runs[name].append(taken)
                    if name == "slmcompile":
                        written.add(told)
            for name, found in runs.items():
                middle = Taken(
                    statistics.median(each.wall for each in found),
                    statistics.median(each.cpu for each in found),
                    max(each.peak for each in found),
                )
                points[name].append(middle)
                print(
                    f"{size:9,d}  {name:14}{middle.wall:8.1f} {middle.cpu:8.1f}"
                    f" {middle.cpu / size * 1e6:12.0f} {middle.peak / 2**20:9.0f}"
                    f" {(middle.peak - few[name]) / 2**20:12.0f}"
                    + (f"   sha256 {' '.join(sorted(written))}" if name == "slmcompile" else ""),
                    flush=True,
                )
        _fits(arguments.sizes, points)


def _fits(sizes: Sequence[int], points: dict[str, list[Taken]]) -> None:
    if len(sizes) < 2:
        return
    for name, found in points.items():
        cpu, start = statistics.linear_regression(sizes, [each.cpu for each in found])
        peak, least = statistics.linear_regression(sizes, [each.peak for each in found])
        print(
            f"{name}: {cpu * 1e6:.0f} us of CPU a row + {start:.1f} s, {peak:.0f} bytes a row"
            f" + {least / 2**20:.0f} MB; ten million rows: {(cpu * 1e7 + start) / 60:.0f} minutes"
            f" of CPU, {(peak * 1e7 + least) / 2**30:.1f} GB"
        )
    ours, theirs = (found[-1] for found in points.values())
    print(
        f"slmcompile against datasets.map at {sizes[-1]:,d} rows: {ours.cpu / theirs.cpu:.2f}x CPU,"
        f" {ours.wall / theirs.wall:.2f}x time, {ours.peak / theirs.peak:.2f}x memory"
    )


if __name__ == "__main__":
    main()
