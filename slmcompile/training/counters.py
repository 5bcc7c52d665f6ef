"""How far a learner is, as a checkpoint holds it; knows nothing of weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from slmcompile.training.record import CurvePoint


@dataclass
class State:
    """Counters of a run; JSON values only.

    Attributes:
        step: optimizer steps done.
        epoch: current epoch, from 0.
        batch: batches of this epoch already trained (the data position).
        tokens: real tokens seen.
        trained_tokens: of these, trained.
        train_seconds: wall time in training steps.
        cpu_seconds: processor time up to the last checkpoint.
        wall_seconds: wall time up to the last checkpoint.
        evaluated_step: step of the last validation; 0 before the first.
        best_step: step of the best validation.
        best_eval_loss: its loss.
        best_metric: its metric; None where the loss decides.
        waited: validations in a row without a better one.
        answers: answers generated in validations.
        curve: a point for each step.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    evaluated_step: int = 0
    best_step: int = 0
    best_eval_loss: float | None = None
    best_metric: float | None = None
    waited: int = 0
    answers: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
