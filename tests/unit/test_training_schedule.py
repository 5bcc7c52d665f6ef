"""Steps are counted as transformers' TrainingArguments counts them."""

from __future__ import annotations

import pytest
import torch

from slmcompile.estimate.steps import plan_steps
from slmcompile.training.optimizers import adamw, build_scheduler
from tests.sections import train_section


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs", "max_steps", "expected"),
    [
        (100, 10, 1, 1.0, -1, (10, 10)),
        (101, 10, 1, 1.0, -1, (11, 11)),
        (101, 10, 4, 2.0, -1, (3, 6)),
        (100, 10, 1, 0.25, -1, (10, 3)),
        (3, 8, 4, 1.0, -1, (1, 1)),
        (100, 10, 1, 5.0, 7, (10, 7)),
    ],
)
def test_steps(
    rows: int,
    batch: int,
    accumulation: int,
    epochs: float,
    max_steps: int,
    expected: tuple[int, int],
) -> None:
    config = train_section(
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs,
        max_steps=max_steps,
    )
    schedule = plan_steps(config, rows)
    assert (schedule.steps_per_epoch, schedule.max_steps) == expected


def test_warmup_is_rounded_up_and_the_rate_ends_at_zero() -> None:
    config = train_section(learning_rate=0.1, warmup_ratio=0.25, max_steps=10)
    schedule = plan_steps(config, 100)
    assert schedule.warmup_steps == 3
    optimizer = adamw(config, [torch.nn.Parameter(torch.ones(2, 2))])
    scheduler = build_scheduler(config, schedule, optimizer)
    rates = []
    for _ in range(10):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.0, 0.1 / 3, 0.2 / 3, 0.1])
    assert rates[-1] == pytest.approx(0.1 / 7)
    assert scheduler.get_last_lr()[0] == pytest.approx(0.0)


def test_vectors_do_not_decay() -> None:
    config = train_section(learning_rate=0.1, weight_decay=0.5)
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = adamw(config, [matrix, vector])
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert matrix[0, 0].item() == pytest.approx(0.95)
    assert vector[0].item() == 1.0
