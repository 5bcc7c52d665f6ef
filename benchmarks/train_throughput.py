"""Training speed of slmcompile's loop against a plain transformers.Trainer with PEFT.

Same base model, same rows, same LoRA, same batch size, same precision, same threads; the two take
turns, so that a busy machine disturbs both. Prints the median over all steps but the first two of
each round. Tokens are real ones: padding does not count for either.

    python benchmarks/train_throughput.py BASE_FOLDER DATA_FOLDER --steps 12 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slmcompile.console.progress import Silent
from slmcompile.data.store import Row, read_split, write_split
from slmcompile.machine.process import thread_count
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import Lora, LoraTrain
from slmcompile.models.adapter import attach
from slmcompile.models.base_model import load_base_model
from slmcompile.training.batches import epoch_batches
from slmcompile.training.group import Member
from slmcompile.training.loop import train
from slmcompile.training.record import TrainRuntime

WARM_UP = 2
CPU = torch.device("cpu")


@dataclass
class Meter:
    """Clocks read at the end of every optimizer step."""

    tokens: list[int]
    marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self) -> None:
        """Reads both clocks."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def speeds(self) -> Iterator[tuple[float, float]]:
        """(tokens per second, tokens per CPU-second) of each step after the warm-up."""
        pairs = zip(self.marks, self.marks[1:], self.tokens[1:], strict=False)
        for number, (before, after, tokens) in enumerate(pairs, start=1):
            if number >= WARM_UP:
                yield tokens / (after[0] - before[0]), tokens / (after[1] - before[1])


def ours(config: Train, base: Path, data: Path, rows: list[Row]) -> Meter:
    """One round of slmcompile's loop."""
    size, lengths = config.per_device_train_batch_size, [len(row.input_ids) for row in rows]
    order: list[list[int]] = []
    epoch = 0
    while len(order) < config.max_steps:
        order += epoch_batches(lengths, size, config.group_by_length, config.seed, epoch)
        epoch += 1
    meter = Meter([sum(lengths[row] for row in batch) for batch in order])

    def on_log(_: int, values: dict[str, float]) -> None:
        if "loss" in values:
            meter.mark()

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "adapter")
        out.mkdir()
        runtime = TrainRuntime(save_steps=10**9, logging_steps=1)
        train(
            Member("", config, data, out, Path(folder, "scratch"), "benchmark"),
            base,
            runtime,
            Silent(),
            on_log,
            CPU,
        )
    return meter


def plain(config: LoraTrain, base: Path, rows: list[Row], tokenizer: Any) -> Meter:
    """One round of transformers.Trainer: padded batches, whole head, PEFT's own forward."""
    torch.manual_seed(config.seed)
    model = attach(load_base_model(base, config.precision, CPU), config.lora)

    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    meter = Meter([])
    pad = DataCollatorForSeq2Seq(tokenizer)

    def collate(features: list[dict[str, Any]]) -> Any:
        meter.tokens.append(sum(len(each["input_ids"]) for each in features))
        return pad(features)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.mark()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=config.max_steps,
            per_device_train_batch_size=config.per_device_train_batch_size,
            learning_rate=config.learning_rate,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
            seed=config.seed,
        )
        features = [
            {"input_ids": r.input_ids, "labels": r.labels, "attention_mask": [1] * len(r.input_ids)}
            for r in rows
        ]
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=features,
            data_collator=collate,
            callbacks=[Clock()],
        )
        trainer.train()
    return meter


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="folder of the base model")
    parser.add_argument("data", type=Path, help="folder with train.parquet")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=thread_count("auto"))
    args = parser.parse_args()

    from transformers import AutoTokenizer

    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.base, local_files_only=True)
    rows = read_split(args.data, "train")
    config = LoraTrain(
        precision=args.precision,
        max_steps=args.steps,
        eval_steps=10**9,
        per_device_train_batch_size=args.batch,
        num_threads=args.threads,
        lora=Lora(r=16, lora_alpha=32.0),
    )
    speeds: dict[str, list[tuple[float, float]]] = {"transformers.Trainer": [], "slmcompile": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_split(data, "train", rows)
        write_split(data, "validation", rows[: args.batch])  # training needs one; not measured
        for _ in range(args.rounds):
            speeds["transformers.Trainer"] += plain(config, args.base, rows, tokenizer).speeds()
            speeds["slmcompile"] += ours(config, args.base, data, rows).speeds()

    load = os.getloadavg()[0]
    print(f"{args.precision}, batch {args.batch}, {args.threads} threads, load {load:.1f}")
    print(f"{'':22}{'tokens/s':>10}{'tokens/CPU-s':>14}{'steps':>7}")
    medians = {}
    for name, found in speeds.items():
        wall = statistics.median(speed for speed, _ in found)
        cpu = statistics.median(speed for _, speed in found)
        medians[name] = wall, cpu
        print(f"{name:22}{wall:10.0f}{cpu:14.0f}{len(found):7}")
    theirs, own = medians["transformers.Trainer"], medians["slmcompile"]
    print(f"{'ratio':22}{own[0] / theirs[0]:10.2f}{own[1] / theirs[1]:14.2f}")


if __name__ == "__main__":
    main()
