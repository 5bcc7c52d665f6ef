"""How many optimizer steps a run makes.

Semantics are those of ``transformers.TrainingArguments``: an epoch's last, incomplete
accumulation group makes a step of its own; ``max_steps`` overrides ``num_train_epochs``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from slmcompile.methods.keys import Train


@dataclass(frozen=True, slots=True)
class Schedule:
    """Counts of optimizer steps."""

    steps_per_epoch: int
    max_steps: int
    warmup_steps: int


def plan_steps(config: Train, rows: int) -> Schedule:
    """Steps of a run over ``rows`` training rows (no torch needed, so a plan can call it)."""
    batches = math.ceil(rows / config.per_device_train_batch_size)
    steps_per_epoch = max(1, math.ceil(batches / config.gradient_accumulation_steps))
    max_steps = config.max_steps
    if max_steps <= 0:
        max_steps = math.ceil(config.num_train_epochs * steps_per_epoch)
    return Schedule(steps_per_epoch, max_steps, math.ceil(max_steps * config.warmup_ratio))
