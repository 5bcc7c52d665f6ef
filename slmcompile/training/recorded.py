"""What there is to tell of a learner that has made its last step."""

from __future__ import annotations

from typing import Any

import torch

from slmcompile.losses import LOSSES
from slmcompile.training.clock import Clock
from slmcompile.training.group import Group
from slmcompile.training.learner import Learner
from slmcompile.training.phase_memory import PhaseMemory
from slmcompile.training.record import TrainingRecord


def recorded(
    learner: Learner,
    group: Group,
    clock: Clock,
    memory: PhaseMemory,
    threads: int,
    resumed_from: int | None,
) -> TrainingRecord:
    """Its record; times and memory are those of its whole group so far."""
    state = learner.state
    return TrainingRecord(
        curve=tuple(state.curve),
        best_step=state.best_step,
        best_eval_loss=float("inf") if state.best_eval_loss is None else state.best_eval_loss,
        saved_step=state.best_step if learner.best else state.step,
        train_loss_first=state.curve[0].loss,
        train_loss_last=state.curve[-1].loss,
        steps=state.step,
        epochs=learner.epochs,
        tokens=state.tokens,
        trained_tokens=state.trained_tokens,
        tokens_per_second=state.tokens / state.train_seconds,
        cpu_seconds=clock.cpu(),
        wall_seconds=clock.wall(),
        peak_memory_bytes=memory.whole(),
        memory_bytes=memory.peaks(),
        threads=threads,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        trainable_parameters=sum(p.numel() for p in learner.weights.masters.values()),
        total_parameters=_total(learner, group),
        fast_paths=dict(group.fast_paths),
        resumed_from=resumed_from,
        objective="" if learner.loss.plain else _objective(learner),
        metric_for_best_model=learner.task_metric.name if learner.task_metric else None,
        best_metric=state.best_metric,
        answers=state.answers or None,
        early_stopping=_early_stopping(learner),
    )


def _early_stopping(learner: Learner) -> dict[str, Any] | None:
    """Whether it stopped early; None where nobody asked for it."""
    by = learner.best_by
    if by.patience is None:
        return None
    return {
        "patience": by.patience,
        "threshold": by.threshold,
        "planned_steps": learner.schedule.max_steps,
        "stopped": learner.stopped_early,
    }


def _objective(learner: Learner) -> str:
    loss = learner.config.loss
    return LOSSES[loss.type].words(loss.model_dump(mode="json"))


def _total(learner: Learner, group: Group) -> int:
    """Weights of the base and its own: those beside it are no part of what it is."""
    others = (each.weights for each in group.session.learners if each is not learner)
    beside = sum(p.numel() for weights in others for p in weights.masters.values())
    return sum(_elements(p) for p in group.model.parameters()) - beside


def _elements(parameter: torch.nn.Parameter) -> int:
    """Weights that a parameter stands for: a 4-bit one packs two into a byte."""
    quantised = getattr(parameter, "quant_state", None)
    return parameter.numel() if quantised is None else int(quantised.shape.numel())
