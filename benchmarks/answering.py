"""How many tokens a second batches answer with: torch and exported folders, by size of batch.

Takes a base model, what was trained over it, exported folders and a data folder of a finished run,
answers the same test prompts at each size of batch, by turns over the models, and prints generated
tokens (stop tokens among them) per second and per CPU-second, medians of the rounds, and how much
each batch is of one prompt at a time.

    python benchmarks/answering.py outputs/base-4e59912e outputs/R/train outputs/data-35c2e117 \
        outputs/R/export-cpu-int8 outputs/R/export-cpu-int4 --batches 1 8 16 32 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.store import open_split
from slmcompile.files.artifact import read_manifest
from slmcompile.inference import torch_model
from slmcompile.inference.exported import open_exported, provider_of
from slmcompile.machine.device import cpu_name
from slmcompile.machine.process import prepare_to_compute
from slmcompile.training.outputs import trained_weights


def answered(model: Any, prompts: Sequence[Sequence[int]], most: int, batch: int) -> Any:
    """Tokens of all answers, and the wall and CPU seconds that they took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = model.generate(prompts, most, batch, lambda _: None)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return sum(len(each.ids) + (not each.cut_off) for each in found), wall, cpu


def main() -> None:
    """Answers, and prints a line a model and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("exports", type=Path, nargs="*")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16, 32])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    prepare_to_compute()
    rows = open_split(asked.data, "test")
    count = min(asked.rows, len(rows))
    prompts = [rows[number * len(rows) // count].prompt_ids for number in range(count)]
    print(f"{cpu_name()}, {asked.threads} threads; {count} prompts, {asked.rounds} rounds")
    weights = trained_weights(asked.train)
    models: dict[str, Any] = {
        f"torch {each}": torch_model.load(asked.base, weights, asked.threads, each)
        for each in ("bf16", "fp32")
    }
    for folder in asked.exports:
        provider = provider_of(read_manifest(folder), folder)
        models[folder.name] = open_exported(provider, folder, asked.threads)
    taken: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
    for _ in range(asked.rounds):
        for batch in asked.batches:
            for name, model in models.items():
                found = answered(model, prompts, asked.tokens, batch)
                taken.setdefault((name, batch), []).append(found)
    print(f"{'':22} batch  tokens/s  tokens/CPU-s  of the first")
    for name in models:
        first = 0.0
        for batch in asked.batches:
            speed, per_cpu = (
                statistics.median(tokens / times[which] for tokens, *times in taken[name, batch])
                for which in (0, 1)
            )
            first = first or speed
            print(f"{name:22} {batch:5} {speed:9.1f} {per_cpu:13.1f} {speed / first:12.2f}x")


if __name__ == "__main__":
    main()
