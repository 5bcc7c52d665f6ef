"""How many optimizer steps a run makes and how its learning rate goes.

Semantics are those of ``transformers.TrainingArguments``: an epoch's last, incomplete
accumulation group makes a step of its own; ``max_steps`` overrides ``num_train_epochs``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmcompile.methods.keys import Train

if TYPE_CHECKING:
    import torch


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


def build_optimizer(config: Train, weights: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101); vectors (norms, biases) do not decay.

    The fused form makes one pass over a parameter instead of ten; it is element-wise, so it gives
    the same bytes whatever the thread count.
    """
    import torch

    weights = list(weights)
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def build_scheduler(
    config: Train, schedule: Schedule, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning-rate schedule of transformers by its name there."""
    from transformers import get_scheduler

    scheduler: torch.optim.lr_scheduler.LambdaLR = get_scheduler(
        config.lr_scheduler_type,
        optimizer,
        num_warmup_steps=schedule.warmup_steps,
        num_training_steps=schedule.max_steps,
    )
    return scheduler
