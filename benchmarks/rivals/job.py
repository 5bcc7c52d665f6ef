"""What a contestant is asked to train, as a file that programs of other environments can read.

Standard library only: it is imported beside other versions of everything.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        base: folder of the base model.
        data: folder with train.parquet and validation.parquet, for slmcompile.
        rows: JSON Lines of the same training rows, for all others: ``prompt`` and ``completion``
            (its stop token spelt out), ``text`` of both, and ``input_ids`` and ``labels``.
        out: folder to write into.
        steps: optimizer steps.
        batch: rows of each of them.
        threads: CPU threads.
        precision: of the base's weights and of products, fp32 or bf16.
        learning_rate: constant, without warm-up.
        rank: of LoRA, on all linear layers; alpha is twice that, dropout 0.
        max_length: tokens a row has at most; those who join rows join them to this length.
        mean_length: tokens of a row in the mean.
        begins: ids that every row begins with and that stand nowhere else in it, by which rows
            are counted after they have been joined.
        seed: of the order and of the first weights.
        in_order: rows are taken as they stand, and not shuffled.
        save_at: counts of rows from which the adapter is written, at the next end of a step.
        options: the contestant's own.
    """

    base: str
    data: str
    rows: str
    out: str
    steps: int
    batch: int
    threads: int
    precision: Literal["fp32", "bf16"]
    learning_rate: float
    rank: int
    max_length: int
    mean_length: float
    begins: list[int]
    seed: int = 0
    in_order: bool = False
    save_at: list[int] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def pieces(self) -> int:
        """Pieces of ``max_length`` tokens that have about the tokens of ``batch`` rows."""
        return max(1, round(self.batch * self.mean_length / self.max_length))

    @property
    def piece_steps(self) -> int:
        """Steps of ``pieces`` that see as many rows as ``steps`` of ``batch`` rows.

        A tenth more: pieces are not quite full, or have something between their rows.
        """
        tokens = self.steps * self.batch * self.mean_length
        return math.ceil(1.1 * tokens / (self.pieces * self.max_length))

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_job(path: Path) -> Job:
    """What ``Job.write`` wrote."""
    return Job(**json.loads(path.read_text(encoding="utf-8")))
