"""slmcompile's own loop, as the train stage calls it.

``options`` are keys of ``train``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rivals.job import Job, read_job
from rivals.meter import Meter


def train(job: Job) -> None:
    """Trains and writes the meter."""
    from slmcompile.machine.process import prepare_to_compute

    prepare_to_compute()

    import torch

    from slmcompile.console.progress import Silent
    from slmcompile.data.store import read_split
    from slmcompile.methods.lora import Lora, LoraTrain
    from slmcompile.training import loop
    from slmcompile.training.group import Member, open_group
    from slmcompile.training.record import TrainRuntime

    rows = read_split(Path(job.data), "train")
    config = LoraTrain(
        precision=job.precision,
        max_steps=job.steps,
        eval_steps=10**9,
        per_device_train_batch_size=job.batch,
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        seed=job.seed,
        num_threads=job.threads,
        lora=Lora(r=job.rank, lora_alpha=2.0 * job.rank),
        **job.options,
    )
    batches = order(job, [len(row.input_ids) for row in rows], config.group_by_length)
    meter, out, groups = Meter(job.save_at, Path(job.out)), Path(job.out, "adapter"), []
    out.mkdir(parents=True)

    def opened(*args: Any, **kwargs: Any) -> Any:
        # Adapters are written on the way, so that they can be judged: the loop itself never does.
        groups.append(open_group(*args, **kwargs))
        meter.begin()
        return groups[-1]

    def on_log(step: int, values: dict[str, float]) -> None:
        if "loss" not in values:
            return
        batch = [rows[number] for number in batches[step - 1]]
        tokens = sum(len(row.input_ids) for row in batch)
        trained = sum(label != -100 for row in batch for label in row.labels[1:])
        meter.count(tokens, tokens, trained, len(batch))
        folder = meter.step()
        if folder is not None:
            with meter.apart():
                folder.mkdir()
                (learner,) = groups[0].session.learners
                groups[0].write(learner, folder)

    vars(loop)["open_group"] = opened
    member = Member("", config, Path(job.data), out, Path(job.out, "scratch"), "benchmark")
    runtime = TrainRuntime(save_steps=10**9, logging_steps=1)
    loop.train(member, Path(job.base), runtime, Silent(), on_log, torch.device("cpu"))
    meter.write(Path(job.out, "meter.json"))


def order(job: Job, lengths: list[int], group_by_length: bool) -> list[list[int]]:
    """Numbers of the rows of each batch, as the loop takes them."""
    from slmcompile.training.batches import epoch_batches

    found: list[list[int]] = []
    epoch = 0
    while len(found) < job.steps:
        found += epoch_batches(lengths, job.batch, group_by_length, job.seed, epoch)
        epoch += 1
    return found


if __name__ == "__main__":
    train(read_job(Path(sys.argv[1])))
