"""Prints, as JSON, tokens a second that this machine's products would allow at these rows."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from rivals.job import Job, read_job


def measure(job: Job) -> None:
    """Opens the model as the train stage does; of a batch with the mean of all rows."""
    from slmcompile.machine.process import prepare_to_compute

    prepare_to_compute()

    import torch
    from roofline import Floors, product_rate

    from slmcompile.data.store import read_split
    from slmcompile.methods.lora import Lora, LoraTrain
    from slmcompile.training.group import Member, open_group

    torch.set_num_threads(job.threads)
    rows = read_split(Path(job.data), "train")
    tokens = job.batch * statistics.fmean(len(row.input_ids) for row in rows)
    trained = job.batch * statistics.fmean(
        sum(label != -100 for label in row.labels[1:]) for row in rows
    )
    square = job.batch * statistics.fmean(len(row.input_ids) ** 2 for row in rows)
    config = LoraTrain(
        precision=job.precision,
        per_device_train_batch_size=job.batch,
        num_threads=job.threads,
        lora=Lora(r=job.rank, lora_alpha=2.0 * job.rank),
    )
    out = Path(job.out)
    member = Member("", config, Path(job.data), out / "adapter", out / "scratch", "roofline")
    group = open_group([member], Path(job.base), torch.device("cpu"))
    floors = Floors(group.model, tokens, trained, square)
    rate = product_rate(floors.weights, round(tokens))
    print(json.dumps({"rate": rate, "tokens": rate * tokens / sum(floors.flops.values())}))


if __name__ == "__main__":
    measure(read_job(Path(sys.argv[1])))
