"""What answering a test split costs: prompts padded into full batches, and batches of equals.

Takes a base model, an exported folder and a data folder of a finished run, answers the same
prompts both ways in torch and in onnxruntime-genai, alternating, and prints CPU and wall seconds
(medians of the rounds), their ratios, how many batches there were, and how many answers differ,
with the margin between the two likeliest tokens where they part.

    python benchmarks/decoding.py outputs/base-4e59912e outputs/quickstart/train \
        outputs/quickstart/export-cpu-int8 outputs/data-35c2e117 --rows 196 --tokens 48 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from slmcompile.data.store import read_split
from slmcompile.inference import batching, onnx_model, torch_model
from slmcompile.machine.device import cpu_name
from slmcompile.training.outputs import trained_weights

Batches = Callable[[Sequence[int], int, int, int], Iterator[list[int]]]


def equals_together(
    lengths: Sequence[int], batch_size: int, _room: int, _vocab_size: int
) -> Iterator[list[int]]:
    """Prompts of one length in even shares: the way without padding."""
    for length in sorted(set(lengths)):
        group = [index for index, each in enumerate(lengths) if each == length]
        shares = -(-len(group) // min(batch_size, batching.MOST_ROWS))
        yield from (group[share::shares] for share in range(shares))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returned, with the CPU and the wall seconds it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def margin(model: torch_model.TorchModel, prompt: Sequence[int], one: Any, other: Any) -> float:
    """Of the two likeliest tokens where two answers part, by torch's logits."""
    same = next(
        (at for at, (a, b) in enumerate(zip(one.ids, other.ids, strict=False)) if a != b),
        min(len(one.ids), len(other.ids)),
    )
    with torch.inference_mode():
        logits = model._model(torch.tensor([[*prompt, *one.ids[:same]]])).logits[0, -1]
    top = logits.topk(2).values
    return float(top[0] - top[1])


def main() -> None:
    """Answer both ways, by turns, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("export", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=196)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    prompts = [row.prompt_ids for row in read_split(asked.data, "test")][: asked.rows]
    lengths = sorted(map(len, prompts))
    print(
        f"{cpu_name()}, {asked.threads} threads; {len(prompts)} prompts of {lengths[0]} to"
        f" {lengths[-1]} tokens, batches of at most {asked.batch_size}, {asked.rounds} rounds"
    )
    weights = trained_weights(asked.train)
    in_torch = torch_model.load(asked.base, weights, asked.threads, "fp32")
    models = {
        "torch fp32": in_torch,
        asked.export.name: onnx_model.load(asked.export, asked.threads),
    }
    ways: dict[str, Batches] = {
        "equals": equals_together,
        "padded": batching.decoded_together,
    }
    for name, model in models.items():
        module = torch_model if model is in_torch else onnx_model
        spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        answers: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for _ in range(asked.rounds):
            for way, batches in ways.items():
                module.decoded_together = batches  # type: ignore[attr-defined]
                steps: list[int] = []
                found, cpu, wall = timed(
                    lambda model=model, steps=steps: model.generate(
                        prompts, asked.tokens, asked.batch_size, steps.append
                    )
                )
                answers[way], counts[way] = found, len(steps)
                spent[way].append((cpu, wall))
        medians = {
            way: [statistics.median(each) for each in zip(*times, strict=True)]
            for way, times in spent.items()
        }
        for way, (cpu, wall) in medians.items():
            print(f"{name:18} {way}: {cpu:7.2f} CPU-s {wall:7.2f} s  {counts[way]} batches")
        cpu, wall = (medians["equals"][i] / medians["padded"][i] for i in (0, 1))
        pairs = zip(prompts, answers["equals"], answers["padded"], strict=True)
        margins = [margin(in_torch, prompt, a, b) for prompt, a, b in pairs if a != b]
        differ = f"{len(margins)} answers differ"
        if margins:
            differ += f", the largest margin where they part {max(margins):.2g}"
        print(f"{name:18} padded is {cpu:.2f}x in CPU-s, {wall:.2f}x in s; {differ}")


if __name__ == "__main__":
    main()
