"""Prints, as JSON, how many held-out rows each adapter answers exactly: one judge for all.

``options``: ``adapters``, folders as PEFT writes them; the rows are the split ``held_out`` beside
the job's. Answers are greedy, by slmcompile's own torch model with the adapter merged, in fp32: of
so few rows at once it takes half the time of bf16.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rivals.job import Job, read_job


def judge(job: Job) -> None:
    """Shares of exact answers, in the order of the adapters."""
    from slmcompile.machine.process import prepare_to_compute

    prepare_to_compute()

    from slmcompile.data.store import read_split
    from slmcompile.inference.torch_model import load

    rows = read_split(Path(job.data), "held_out")
    prompts = [row.prompt_ids for row in rows]
    wanted = [row.input_ids[len(row.prompt_ids) : -1] for row in rows]
    found = []
    for adapter in job.options["adapters"]:
        model = load(Path(job.base), Path(adapter), job.threads, "fp32")
        answers = model.generate(prompts, max(map(len, wanted)), 32, lambda _: None)
        exact = sum(
            not answer.cut_off and answer.ids == ids
            for answer, ids in zip(answers, wanted, strict=True)
        )
        found.append(exact / len(rows))
    print(json.dumps(found))


if __name__ == "__main__":
    judge(read_job(Path(sys.argv[1])))
