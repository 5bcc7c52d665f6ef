"""``transformers.Trainer`` over a PEFT model: rows in batches padded to the longest of each.

As their documentation has it: the base is loaded in the precision that is asked for, PEFT keeps
its adapters in fp32 and bf16 is the trainer's autocast. ``options``: none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rivals.in_trainer import metered
from rivals.job import Job, read_job


def train(job: Job) -> None:
    """Trains and writes the meter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    meter = metered(job)
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.precision]
    lora = LoraConfig(
        r=job.rank,
        lora_alpha=2 * job.rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype), lora)
    arguments = TrainingArguments(
        output_dir=job.out,
        max_steps=job.steps,
        per_device_train_batch_size=job.batch,
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        bf16=job.precision == "bf16",
        train_sampling_strategy="sequential" if job.in_order else "random",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=job.seed,
    )
    rows: list[dict[str, Any]] = []
    for line in Path(job.rows).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ids = row["input_ids"]
        rows.append({"input_ids": ids, "labels": row["labels"], "attention_mask": [1] * len(ids)})
    pad = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(job.base))
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=pad).train()
    meter.write(Path(job.out, "meter.json"))


if __name__ == "__main__":
    train(read_job(Path(sys.argv[1])))
