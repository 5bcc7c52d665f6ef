"""``olive finetune`` as from a command line: its LoRA pass.

It joins all rows into one text (an empty line between them), cuts that to ``max_length`` tokens and
trains on prompts and completions alike. Its batch is of such pieces, as many as have about the
tokens of ``job.batch`` rows. By default it recomputes activations; its LoRA has a dropout of 0.05,
for which the command has no option. ``options``: ``more``, further words of the command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rivals.in_trainer import metered
from rivals.job import Job, read_job

ROWS_AT_MOST = 10**6
"""Pieces that it may take of the text; its default would be 256."""


def words(job: Job) -> list[str]:
    """The command."""
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[job.precision]
    found = ["olive", "finetune", "--disable_telemetry", "-o", f"{job.out}/olive", "-m", job.base]
    found += ["-d", "json", "--data_files", job.rows, "--text_field", "text"]
    found += ["--max_seq_len", str(job.max_length), "--max_samples", str(ROWS_AT_MOST)]
    found += ["--torch_dtype", dtype, "--lora_r", str(job.rank), "--lora_alpha", str(2 * job.rank)]
    found += ["--target_modules", ",".join(_linears(Path(job.base)))]
    found += ["--learning_rate", str(job.learning_rate), "--lr_scheduler_type", "constant"]
    found += ["--per_device_train_batch_size", str(job.pieces), "--max_steps", str(job.piece_steps)]
    found += ["--use_cpu", "true", "--save_strategy", "no", "--seed", str(job.seed)]
    if job.in_order:
        found += ["--train_sampling_strategy", "sequential"]
    return [*found, *job.options.get("more", [])]


def _linears(base: Path) -> list[str]:
    """Names of the layers with weights of two dimensions inside the base's decoder layers."""
    with (base / "model.safetensors").open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    inside = [name for name in header if ".layers." in name and len(header[name]["shape"]) == 2]
    return sorted({name.removesuffix(".weight").rpartition(".")[2] for name in inside})


def train(job: Job) -> None:
    """Trains and writes the meter."""
    import torch
    from olive.cli.launcher import main  # type: ignore[import-not-found, unused-ignore]

    meter = metered(job)
    torch.set_num_threads(job.threads)
    main(words(job)[1:])
    meter.write(Path(job.out, "meter.json"))


if __name__ == "__main__":
    train(read_job(Path(sys.argv[1])))
