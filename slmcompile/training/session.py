"""One training run's moving parts, and what of them a checkpoint holds.

Knows how to make a step and a validation pass; the loop decides when.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from slmcompile.console.errors import StageFailedError
from slmcompile.data.store import Row
from slmcompile.estimate.steps import Schedule, build_optimizer, build_scheduler
from slmcompile.machine.signals import StopRequest
from slmcompile.methods.keys import Train
from slmcompile.training.batches import collate, epoch_batches, sorted_batches
from slmcompile.training.checkpoint import Checkpoint
from slmcompile.training.determinism import restore_rng_states, rng_states
from slmcompile.training.loss import TrainedPositionLoss
from slmcompile.training.master_weights import MasterWeights
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
        best_step: step with the lowest validation loss.
        best_eval_loss: that loss.
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
    curve: list[CurvePoint] = field(default_factory=list)


class Session:
    """A model, its optimizer and its rows, between two steps.

    Args:
        config: the recipe's train section.
        model: the causal language model, adapters (if any) injected, fused forms installed.
        weights: masters of its trained weights.
        train_rows: rows of the train split.
        validation_rows: rows of the validation split.
        schedule: counts of steps.
    """

    def __init__(
        self,
        config: Train,
        model: Any,
        weights: MasterWeights,
        train_rows: Sequence[Row],
        validation_rows: Sequence[Row],
        schedule: Schedule,
    ) -> None:
        self._config = config
        self._model = model
        self._rows = train_rows
        self._lengths = [len(row.input_ids) for row in train_rows]
        self._validation = validation_rows
        self._loss = TrainedPositionLoss(model)
        self._optimizer = build_optimizer(config, weights.masters.values())
        self._scheduler = build_scheduler(config, schedule, self._optimizer)
        self._order: tuple[int, list[list[int]]] | None = None
        self.schedule = schedule
        self.weights = weights
        self.state = State()
        self.best: dict[str, torch.Tensor] = {}

    @property
    def fused_head(self) -> bool:
        """Whether the head and the loss run as one function."""
        return self._loss.fused

    def train_step(self) -> CurvePoint:
        """One optimizer step over an effective batch.

        The loss is the mean over all trained tokens of the effective batch, whichever micro-batch
        they are in.

        Raises:
            StageFailedError: loss or gradient is NaN or infinite (exit 1).
        """
        state, started = self.state, time.perf_counter()
        batches = [collate([self._rows[row] for row in rows]) for rows in self._next_group()]
        trained = sum(len(batch.targets) for batch in batches)
        self._model.train()
        loss = 0.0
        for batch in batches:
            total = self._loss(batch)
            loss += total.item() / trained
            self._require_finite(loss, "loss", state.step + 1)
            torch.autograd.backward(total / trained)
            self.weights.collect_gradients()
        masters = list(self.weights.masters.values())
        norm = torch.nn.utils.clip_grad_norm_(masters, self._config.max_grad_norm).item()
        self._require_finite(norm, "gradient norm", state.step + 1)
        learning_rate = float(self._scheduler.get_last_lr()[0])
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad()
        self.weights.publish()
        state.step += 1
        state.tokens += sum(batch.tokens for batch in batches)
        state.trained_tokens += trained
        state.train_seconds += time.perf_counter() - started
        point = CurvePoint(
            state.step, self.epochs(), loss, learning_rate, norm, state.tokens, state.train_seconds
        )
        state.curve.append(point)
        return point

    def epochs(self) -> float:
        """Passes over the train split so far."""
        return self.state.epoch + self.state.batch / len(self._batches())

    def validate(self, stop: StopRequest) -> float | None:
        """Mean cross entropy over the validation split; None if a stop was asked for meanwhile.

        Raises:
            StageFailedError: it is NaN or infinite (exit 1).
        """
        size = self._config.per_device_eval_batch_size
        lengths = [len(row.input_ids) for row in self._validation]
        total, trained = 0.0, 0
        self._model.eval()
        for rows in sorted_batches(lengths, size):
            if stop:
                return None
            batch = collate([self._validation[row] for row in rows])
            with torch.no_grad():
                total += self._loss(batch).item()
            trained += len(batch.targets)
        loss = total / trained
        self._require_finite(loss, "validation loss", self.state.step)
        self._note_validation(loss)
        return loss

    def _note_validation(self, loss: float) -> None:
        state = self.state
        state.evaluated_step = state.step
        state.curve[-1].eval_loss = loss
        if state.best_eval_loss is None or loss < state.best_eval_loss:
            state.best_eval_loss, state.best_step = loss, state.step
            if self._config.load_best_model_at_end:
                self.best = self.weights.snapshot()

    def _batches(self) -> list[list[int]]:
        """Batches of the current epoch."""
        epoch, config = self.state.epoch, self._config
        if self._order is None or self._order[0] != epoch:
            size = config.per_device_train_batch_size
            self._order = (
                epoch,
                epoch_batches(self._lengths, size, config.group_by_length, config.seed, epoch),
            )
        return self._order[1]

    def _next_group(self) -> list[list[int]]:
        """Row numbers of the next effective batch, by micro-batch; moves the data position."""
        state = self.state
        if state.batch >= len(self._batches()):
            state.epoch, state.batch = state.epoch + 1, 0
        end = state.batch + self._config.gradient_accumulation_steps
        group = self._batches()[state.batch : end]
        state.batch += len(group)
        return group

    def _require_finite(self, value: float, what: str, step: int) -> None:
        if math.isfinite(value):
            return
        # Before its first step a trained weight is the base model's too.
        given = (p for p in self._model.parameters() if step <= 1 or not p.requires_grad)
        if not all(bool(torch.isfinite(p).all()) for p in given):
            raise StageFailedError(
                f"train: {what} is {value} at step {step}: the base model's weights hold NaN or"
                " infinite values",
                "use another base model; this one cannot be trained",
            )
        raise StageFailedError(
            f"train: {what} is {value} at step {step}: training diverged at learning rate"
            f" {self._scheduler.get_last_lr()[0]:.3g}",
            "lower train.learning_rate or train.max_grad_norm, or raise train.warmup_ratio",
        )

    def checkpoint(self, cpu_seconds: float, wall_seconds: float) -> Checkpoint:
        """Everything that ``restore`` needs, at the times given; saved before the next step."""
        self.state.cpu_seconds, self.state.wall_seconds = cpu_seconds, wall_seconds
        generators, generator_tensors = rng_states()
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
            "generators": generators,
        }
        tensors = {
            "weights": self.weights.tensors(),
            "best": self.best,
            "optimizer": moments,
            "rng": generator_tensors,
        }
        return Checkpoint(self.state.step, values, tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of the same run."""
        values, tensors = checkpoint.state, checkpoint.tensors
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
        restore_rng_states(values["generators"], tensors["rng"])
