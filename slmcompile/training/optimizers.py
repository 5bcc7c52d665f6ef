"""The programs of optimizers, and how the learning rate goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from slmcompile.estimate.steps import Schedule
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import LoraTrain


def adamw(config: Train, weights: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101); vectors (norms, biases) do not decay.

    The fused form makes one pass over a parameter instead of ten; it is element-wise, so it gives
    the same bytes whatever the thread count.
    """
    return torch.optim.AdamW(
        groups(config, weights),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )


def groups(config: Train, weights: Iterable[torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups by decay and learning rate, empty ones left out.

    Matrices decay and vectors do not. In LoRA+ (arXiv:2402.12354) the matrices B have a learning
    rate of their own; the schedule scales each group's. The first group is at
    ``config.learning_rate``, which is the one that a run reports.
    """
    weights = list(weights)
    faster = [weight for weight in weights if _is_b(weight)] if _ratio(config) else []
    among = {id(weight) for weight in faster}
    others = [weight for weight in weights if id(weight) not in among]
    matrices = [weight for weight in others if weight.ndim >= 2]
    vectors = [weight for weight in others if weight.ndim < 2]
    found = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {
            "params": faster,
            "weight_decay": config.weight_decay,
            "lr": config.learning_rate * (_ratio(config) or 1.0),
        },
    ]
    return [group for group in found if group["params"]]


def _ratio(config: Train) -> float | None:
    return config.lora.loraplus_lr_ratio if isinstance(config, LoraTrain) else None


def _is_b(weight: torch.nn.Parameter) -> bool:
    """Whether it is the adapter's matrix that begins as zero, by its name in PEFT.

    That of an embedding is A: its factors change places there, and both keep the usual rate.
    """
    return ".lora_B." in getattr(weight, "weight_name", "")


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
