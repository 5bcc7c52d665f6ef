"""Decoding of exported folders side by side: ONNX and llama.cpp of one width, and OpenVINO.

For each folder, by turns: tokens a second behind a prompt, seconds to the first token of prompts of
several lengths, nats a token on the same test rows as quality, megabytes of weights, and the tokens
a second that this machine's memory would allow if each weight were read once a token, with the
bandwidth measured in the same run. Medians of the rounds; the same prompt, threads and lengths for
all. A folder's runtime is that of its manifest; adapters are merged in all. Threads of several
runtimes that wait busily in one process slow each other down: give a folder a run, one behind the
other.

    python benchmarks/decode.py outputs/data-35c2e117 outputs/R/export-cpu-int4
    python benchmarks/decode.py outputs/data-35c2e117 outputs/R/export-gguf-q4-k-m
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from roofline import best  # type: ignore[import-not-found, unused-ignore]

from slmcompile.data.store import open_split
from slmcompile.files.artifact import read_manifest
from slmcompile.inference.exported import open_exported, provider_of
from slmcompile.machine.device import cpu_name
from slmcompile.machine.process import prepare_to_compute

WEIGHTS = {".data", ".onnx", ".gguf", ".bin", ".safetensors"}


def read_rate(threads: int) -> float:
    """Bytes read a second by a sum over half a gigabyte, which no cache holds."""
    torch.set_num_threads(threads)
    numbers = torch.ones(1 << 27)
    return float(numbers.nbytes / best(numbers.sum))


def first_token(model: Any, prompt: Sequence[int]) -> float:
    """Seconds from a prompt to its first token, whatever that is."""
    start = time.perf_counter()
    next(iter(model.stream(prompt, 1)), None)
    return time.perf_counter() - start


def main() -> None:
    """Measures, and prints a line a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("exports", type=Path, nargs="+")
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument("--behind", type=int, default=64, help="prompt's tokens before decoding")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    prepare_to_compute()
    rows = open_split(asked.data, "test")
    text = [token for row in rows for token in row.input_ids]
    measured = [rows[number * len(rows) // asked.rows] for number in range(asked.rows)]
    models: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for folder in asked.exports:
        provider = provider_of(read_manifest(folder), folder)
        models[folder.name] = open_exported(provider, folder, asked.threads)
        sizes[folder.name] = sum(
            path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS
        )
    speeds: dict[str, list[float]] = {name: [] for name in models}
    firsts: dict[tuple[str, int], list[float]] = {}
    reads: list[float] = []
    for _ in range(asked.rounds):
        reads.append(read_rate(asked.threads))
        for name, model in models.items():
            speeds[name].append(model.decode_speed(text[: asked.behind], asked.tokens))
            for length in asked.prompts:
                taken = first_token(model, text[:length])
                firsts.setdefault((name, length), []).append(taken)
    rate = statistics.median(reads)
    print(
        f"{cpu_name()}, {asked.threads} threads, memory {rate / 1e9:.1f} GB/s; decoding"
        f" {asked.tokens} tokens behind {asked.behind}; {asked.rounds} rounds"
    )
    heads = "".join(f"  {f'first of {length}':>13}" for length in asked.prompts)
    print(f"{'':22}     MB  tokens/s  memory allows{heads}  nats a token")
    found: dict[str, Any] = {}
    for name, model in models.items():
        speed = statistics.median(speeds[name])
        told = [statistics.median(firsts[name, length]) for length in asked.prompts]
        scored = model.log_likelihood(measured)
        nats = -sum(total for total, _ in scored) / sum(count for _, count in scored)
        shown = "".join(f"  {1000 * each:10.0f} ms" for each in told)
        print(
            f"{name:22} {sizes[name] / 1e6:6.0f} {speed:9.1f} {rate / sizes[name]:14.0f}{shown}"
            f" {nats:13.4f}",
            flush=True,
        )
        found[name] = {"tokens_per_second": speed, "first": told, "nats": nats}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
