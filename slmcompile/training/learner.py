"""What learns one set of weights over a base model, and what of it a checkpoint holds.

Knows its rows and their order, loss, optimizer, learning rate, best weights and counters; knows
nothing of how a loss is computed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from slmcompile.data.store import Row, lengths_of
from slmcompile.estimate.steps import plan_steps
from slmcompile.losses import LOSSES
from slmcompile.methods.early_stopping import best_by
from slmcompile.methods.keys import Train
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.registry.table import program
from slmcompile.training.batches import MicroBatch, epoch_batches, sorted_batches
from slmcompile.training.counters import State
from slmcompile.training.losses.positions import trained_tokens
from slmcompile.training.losses.program import Losses, LossProgram
from slmcompile.training.master_weights import MasterWeights
from slmcompile.training.not_finite import NotFiniteError
from slmcompile.training.optimizers import build_scheduler
from slmcompile.training.record import CurvePoint
from slmcompile.training.task_metric import TaskMetric


@dataclass
class _EffectiveBatch:
    """What one optimizer step is made from.

    Attributes:
        tokens: real tokens.
        trained: of these, trained.
        loss: mean loss over them, as far as they have been forward.
        cross_entropy: the same of cross entropy, where the loss is another.
    """

    tokens: int = 0
    trained: int = 0
    loss: float = 0.0
    cross_entropy: float = 0.0


class Learner:
    """Trained weights, their optimizer and their rows, between two steps.

    Args:
        member: its name in a group; empty in a plain recipe.
        config: the train section.
        weights: masters of the trained weights.
        train_rows: rows of the train split.
        validation_rows: rows of the validation split.
        project: folder that code of the recipe lies in.
        task_metric: what decides which weights are the best, where the loss does not.

    Raises:
        BadDataError: the loss names labels that no row has (exit 65).
        StageFailedError: the loss is code of the project that cannot be executed (exit 1).
    """

    def __init__(
        self,
        member: str,
        config: Train,
        weights: MasterWeights,
        train_rows: Sequence[Row],
        validation_rows: Sequence[Row],
        project: Path = Path(),
        task_metric: TaskMetric | None = None,
    ) -> None:
        self.member = member
        self.config = config
        self._rows = train_rows
        self._lengths = lengths_of(train_rows)
        self._validation = validation_rows
        self._order: tuple[int, list[list[int]]] | None = None
        self.schedule = plan_steps(config, len(train_rows))
        opened = program(LOSSES[config.loss.type].program)
        self.loss: LossProgram = opened(config.loss, train_rows, project)
        self._optimizer = program(OPTIMIZERS[config.optim].program)(
            config, weights.masters.values()
        )
        self._scheduler = build_scheduler(config, self.schedule, self._optimizer)
        self.weights = weights
        self.task_metric = task_metric
        self.best_by = best_by(config)
        self.state = State()
        self.best: dict[str, torch.Tensor] = {}
        self.failed: NotFiniteError | None = None
        self._effective = _EffectiveBatch()

    @property
    def done(self) -> bool:
        """Whether it has made its last step."""
        state = self.state
        return state.step >= self.schedule.max_steps or self.best_by.is_over(state.waited)

    @property
    def stopped_early(self) -> bool:
        """Whether its last step was not the last of its schedule."""
        return self.done and self.state.step < self.schedule.max_steps

    @property
    def wants_validation(self) -> bool:
        """Whether one is due and was not made yet."""
        state = self.state
        due = self.done or (state.step > 0 and state.step % self.config.eval_steps == 0)
        return due and state.evaluated_step != state.step

    @property
    def epochs(self) -> float:
        """Passes over the train split so far."""
        return self.state.epoch + self.state.batch / len(self._batches())

    def next_micro_batches(self) -> list[MicroBatch]:
        """Those of the next effective batch; moves the data position."""
        state = self.state
        if state.batch >= len(self._batches()):
            state.epoch, state.batch = state.epoch + 1, 0
        end = state.batch + self.config.gradient_accumulation_steps
        group = self._batches()[state.batch : end]
        state.batch += len(group)
        rows = [[self._rows[row] for row in each] for each in group]
        self._effective = _EffectiveBatch(
            tokens=sum(len(row.input_ids) for each in rows for row in each),
            trained=sum(trained_tokens(row) for each in rows for row in each),
        )
        return [MicroBatch(self.member, each, state.step) for each in rows]

    def validation_batches(self) -> Iterator[MicroBatch]:
        """Rows of the validation split by batch."""
        lengths = lengths_of(self._validation)
        for rows in sorted_batches(lengths, self.config.per_device_eval_batch_size):
            yield MicroBatch(self.member, [self._validation[row] for row in rows])

    def share(self, losses: Losses) -> torch.Tensor:
        """What the losses of a micro-batch add to the mean over the effective batch.

        Raises:
            NotFiniteError: the mean is NaN or infinite (exit 1).
        """
        added = losses.minimised.sum() / self._effective.trained
        self._effective.loss += added.item()
        if not self.loss.plain:
            nats = losses.cross_entropy.sum() / self._effective.trained
            self._effective.cross_entropy += nats.item()
        self.require_finite(self._effective.loss, "loss", self.state.step + 1)
        return added

    def step(self, started: float) -> CurvePoint:
        """One optimizer step by the gradients that the masters have.

        Args:
            started: when the step began, ``time.perf_counter()``.

        Raises:
            NotFiniteError: the gradient is NaN or infinite (exit 1).
        """
        state = self.state
        masters = list(self.weights.masters.values())
        norm = torch.nn.utils.clip_grad_norm_(masters, self.config.max_grad_norm).item()
        self.require_finite(norm, "gradient norm", state.step + 1)
        learning_rate = self._rate()
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad()
        self.weights.publish()
        state.step += 1
        state.tokens += self._effective.tokens
        state.trained_tokens += self._effective.trained
        state.train_seconds += time.perf_counter() - started
        point = CurvePoint(
            state.step,
            self.epochs,
            self._effective.loss,
            learning_rate,
            norm,
            state.tokens,
            state.train_seconds,
            cross_entropy=None if self.loss.plain else self._effective.cross_entropy,
        )
        state.curve.append(point)
        return point

    def note_validation(self, loss: float, metric: float | None = None) -> None:
        """Keeps the weights if they are the best so far and the best are wanted.

        Args:
            loss: over the validation split.
            metric: what ``task_metric`` measured, where there is one.

        Raises:
            NotFiniteError: the loss or the metric is NaN or infinite (exit 1).
        """
        state, by = self.state, self.best_by
        self.require_finite(loss, "validation loss", state.step)
        value, best = loss, state.best_eval_loss
        if self.task_metric and metric is not None:
            self.require_finite(metric, f"validation {self.task_metric.name}", state.step)
            value, best = metric, state.best_metric
            state.answers += self.task_metric.answers
        state.evaluated_step = state.step
        state.curve[-1].eval_loss, state.curve[-1].eval_metric = loss, metric
        state.waited = by.waited(value, best, state.waited)
        if by.is_better(value, best):
            state.best_eval_loss, state.best_metric = loss, metric
            state.best_step = state.step
            if self.config.load_best_model_at_end:
                self.best = self.weights.snapshot()

    def require_finite(self, value: float, what: str, step: int) -> None:
        """Raises NotFiniteError where the value is none of a training that goes well."""
        if not math.isfinite(value):
            found = f"{what} is {value} at step {step}"
            raise NotFiniteError(self.member, found, self._rate())

    def _rate(self) -> float:
        return float(self._scheduler.get_last_lr()[0])

    def _batches(self) -> list[list[int]]:
        """Batches of the current epoch."""
        epoch, config = self.state.epoch, self.config
        if self._order is None or self._order[0] != epoch:
            size = config.per_device_train_batch_size
            self._order = (
                epoch,
                epoch_batches(self._lengths, size, config.group_by_length, config.seed, epoch),
            )
        return self._order[1]

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
        """JSON values and tensors, by file, that ``restore`` needs; saved before the next step."""
        optimizer = self._optimizer.state_dict()
        moments = {
            f"{number}.{name}": tensor
            for number, entry in optimizer["state"].items()
            for name, tensor in entry.items()
        }
        values = {
            "run": asdict(self.state),
            "optimizer": optimizer["param_groups"],
            "scheduler": self._scheduler.state_dict(),
        }
        return values, {
            "weights": self.weights.tensors(),
            "best": self.best,
            "optimizer": moments,
        }

    def restore(
        self, values: Mapping[str, Any], tensors: Mapping[str, dict[str, torch.Tensor]]
    ) -> None:
        """Goes on from what ``checkpoint`` returned in the same run."""
        run = dict(values["run"])
        curve = [CurvePoint(**point) for point in run.pop("curve")]
        self.state = State(**run, curve=curve)
        self.weights.load(tensors["weights"])
        self.best = tensors["best"]
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors["optimizer"].items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = tensor
        self._optimizer.load_state_dict({"state": moments, "param_groups": values["optimizer"]})
        self._scheduler.load_state_dict(values["scheduler"])
