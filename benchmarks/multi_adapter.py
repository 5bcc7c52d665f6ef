"""What training several adapters in one pass over a base costs, against training them apart.

Each case runs in a process of its own, and the cases take turns, so that a busy machine disturbs
all; medians over the rounds. Tokens are real ones. ``one`` is an adapter alone at its own batch;
``four`` are four of them together, each at that batch; ``four, small`` share that batch's rows
among them, so that a forward pass has as many tokens as ``one``; ``four, isolated`` have a forward
pass each. ``four runs`` is the wall time of ``one`` four times, one after the other, with loading
and validation.

    python benchmarks/multi_adapter.py BASE_FOLDER DATA_FOLDER --batch 8 --steps 12 --rounds 3
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
from pathlib import Path
from typing import Any

CASES = {
    # members, parts of the batch, isolated
    "one": (1, 1, False),
    "four": (4, 1, False),
    "four, small": (4, 4, False),
    "four, isolated": (4, 1, True),
}


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """One case, in this process."""
    import torch

    from slmcompile.console.progress import Silent
    from slmcompile.methods.lora import Lora, LoraTrain
    from slmcompile.training.group import Member
    from slmcompile.training.loop import train_together
    from slmcompile.training.record import TrainRuntime

    count, parts, isolated = CASES[arguments.case]
    config = LoraTrain(
        precision=arguments.precision,
        learning_rate=1e-3,
        max_steps=arguments.steps,
        eval_steps=arguments.steps,
        per_device_train_batch_size=arguments.batch // parts,
        per_device_eval_batch_size=arguments.batch,
        num_threads=arguments.threads,
        lora=Lora(r=16, lora_alpha=32.0),
    )
    marks: list[tuple[float, float, float]] = []
    told: dict[str, float] = {}

    def on_log(_: int, values: dict[str, float]) -> None:
        told.update({name: value for name, value in values.items() if name.endswith("tokens")})
        if [name for name in values if name.endswith("loss")]:
            marks.append((time.perf_counter(), time.process_time(), sum(told.values())))

    with tempfile.TemporaryDirectory() as folder:
        members = []
        for number in range(count):
            name = f"m{number}" if count > 1 else ""
            out = Path(folder, "out", name or "alone")
            out.mkdir(parents=True)
            # Seeds are in common; other rates make other work of the same rows.
            own = config.model_copy(update={"learning_rate": 1e-3 * (1 + number / 10)})
            scratch = Path(folder, "scratch", str(number))
            members.append(Member(name, own, arguments.data, out, scratch, f"benchmark {number}"))
        began = time.perf_counter()
        records = train_together(
            members,
            arguments.base,
            TrainRuntime(save_steps=10**9, logging_steps=1),
            Silent(),
            on_log,
            torch.device("cpu"),
            isolated=isolated,
        )
        whole = time.perf_counter() - began
    steps = [marks[at] for at in range(count - 1, len(marks), count)]  # the last of each step
    warm, last = steps[1], steps[arguments.steps - 1]
    tokens = last[2] - warm[2]
    memory = [record.memory_bytes for record in records.values()]
    return {
        "tokens_per_cpu_second": tokens / (last[1] - warm[1]),
        "tokens_per_second": tokens / (last[0] - warm[0]),
        "tokens_a_step": tokens / (arguments.steps - 2),
        "training_gb": max(found["training"] for found in memory) / 1e9,
        "seconds": whole,
    }


def asked(arguments: argparse.Namespace, case: str) -> dict[str, Any]:
    """One case, in a process of its own."""
    command = [sys.executable, __file__, str(arguments.base), str(arguments.data), "--case", case]
    for name in ("batch", "steps", "threads", "precision"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs all cases in turns and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments)))
        return
    found: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case, of_case in found.items():
            of_case.append(asked(arguments, case))
    medians = {
        case: {key: statistics.median(each[key] for each in of_case) for key in of_case[0]}
        for case, of_case in found.items()
    }
    print(
        f"{arguments.precision}, batch {arguments.batch} each, {arguments.threads} threads,"
        f" {arguments.steps} steps, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':16}{'tokens/CPU-s':>14}{'tokens/s':>10}{'tokens a step':>15}{'GB':>7}{'s':>7}")
    for case, of_case in medians.items():
        print(
            f"{case:16}{of_case['tokens_per_cpu_second']:14.0f}{of_case['tokens_per_second']:10.0f}"
            f"{of_case['tokens_a_step']:15.0f}{of_case['training_gb']:7.2f}{of_case['seconds']:7.0f}"
        )
    one, four, small = medians["one"], medians["four"], medians["four, small"]
    isolated = medians["four, isolated"]
    speed, apart = "tokens_per_cpu_second", 4 * one["seconds"]
    ratios = {
        "tokens/CPU-s, each at its own batch, to one alone": four[speed] / one[speed],
        "tokens/CPU-s, at equal tokens a forward pass, to one alone": small[speed] / one[speed],
        "tokens/CPU-s, isolated, to together": isolated[speed] / four[speed],
        "memory at equal tokens a forward pass, to one alone": small["training_gb"]
        / one["training_gb"],
        f"wall time of four together, to four runs ({apart:.0f} s)": four["seconds"] / apart,
    }
    for what, ratio in ratios.items():
        print(f"{what:62}{ratio:6.2f}")


if __name__ == "__main__":
    main()
