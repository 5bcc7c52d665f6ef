"""The programs of optimizers, and how the learning rate goes."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from slmcompile.estimate.steps import Schedule
from slmcompile.methods.keys import Train


def adamw(config: Train, weights: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101); vectors (norms, biases) do not decay.

    The fused form makes one pass over a parameter instead of ten; it is element-wise, so it gives
    the same bytes whatever the thread count.
    """
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
