"""TRL's ``SFTTrainer`` on prompts and completions, with its defaults: loss on completions alone.

By default it recomputes activations (``gradient_checkpointing``). ``options`` go to ``SFTConfig``
as they are; where they ask for packing, a batch has as many pieces as have about the tokens of
``job.batch`` rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rivals.in_trainer import metered
from rivals.job import Job, read_job


def train(job: Job) -> None:
    """Trains and writes the meter."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found, unused-ignore]

    meter = metered(job)
    torch.set_num_threads(job.threads)
    packed = job.options.get("packing", False)
    config = SFTConfig(
        output_dir=job.out,
        max_steps=job.piece_steps if packed else job.steps,
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        bf16=job.precision == "bf16",
        model_init_kwargs={"dtype": {"fp32": "float32", "bf16": "bfloat16"}[job.precision]},
        train_sampling_strategy="sequential" if job.in_order else "random",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=job.seed,
        per_device_train_batch_size=job.pieces if packed else job.batch,
        max_length=None if job.options.get("padding_free") else job.max_length,
        **job.options,
    )
    lora = LoraConfig(
        r=job.rank,
        lora_alpha=2 * job.rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    rows = load_dataset("json", data_files=job.rows, split="train")
    rows = rows.select_columns(["prompt", "completion"])
    SFTTrainer(model=job.base, args=config, train_dataset=rows, peft_config=lora).train()
    meter.write(Path(job.out, "meter.json"))


if __name__ == "__main__":
    train(read_job(Path(sys.argv[1])))
