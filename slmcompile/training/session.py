"""A base model and what learns over it, between two steps.

Knows how to make a step and a validation pass; the loop decides when.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from slmcompile.console.errors import StageFailedError
from slmcompile.machine.signals import StopRequest
from slmcompile.training.batches import collate
from slmcompile.training.checkpoint import Checkpoint
from slmcompile.training.determinism import restore_rng_states, rng_states
from slmcompile.training.learner import Learner, NotFiniteError
from slmcompile.training.loss import TrainedPositionLoss
from slmcompile.training.record import CurvePoint


class Session:
    """A model on its device and a learner of weights in it.

    Args:
        model: the causal language model, adapters (if any) injected, fused forms installed.
        learner: has the masters of its trained weights.
        device: where the model is.
    """

    def __init__(self, model: Any, learner: Learner, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._loss = TrainedPositionLoss(model, device)
        self.learner = learner

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
        learner, started = self.learner, time.perf_counter()
        batches = [collate(rows, self._device) for rows in learner.next_rows()]
        trained = sum(len(batch.targets) for batch in batches)
        self._model.train()
        loss = 0.0
        with self._telling_whose_fault_it_is():
            for batch in batches:
                total = self._loss(batch)
                loss += total.item() / trained
                learner.require_finite(loss, "loss", learner.state.step + 1)
                torch.autograd.backward(total / trained)
                learner.weights.collect_gradients()
            return learner.step(loss, batches, started)

    def validate(self, stop: StopRequest) -> float | None:
        """Mean cross entropy over the validation split; None if a stop was asked for meanwhile.

        Raises:
            StageFailedError: it is NaN or infinite (exit 1).
        """
        total, trained = 0.0, 0
        self._model.eval()
        for rows in self.learner.validation_rows():
            if stop:
                return None
            batch = collate(rows, self._device)
            with torch.no_grad():
                total += self._loss(batch).item()
            trained += len(batch.targets)
        loss = total / trained
        with self._telling_whose_fault_it_is():
            self.learner.note_validation(loss)
        return loss

    @contextmanager
    def _telling_whose_fault_it_is(self) -> Iterator[None]:
        """A model that holds NaN from the start has not diverged."""
        try:
            yield
        except NotFiniteError as error:
            # Before its first step a trained weight is the base model's too.
            first = self.learner.state.step == 0
            given = (p for p in self._model.parameters() if first or not p.requires_grad)
            if all(bool(torch.isfinite(p).all()) for p in given):
                raise
            raise StageFailedError(
                f"train: {error.found}: the base model's weights hold NaN or infinite values",
                "use another base model; this one cannot be trained",
            ) from error

    def checkpoint(self, cpu_seconds: float, wall_seconds: float) -> Checkpoint:
        """Everything that ``restore`` needs, at the times given; saved before the next step."""
        state = self.learner.state
        state.cpu_seconds, state.wall_seconds = cpu_seconds, wall_seconds
        generators, generator_tensors = rng_states(self._device)
        values, tensors = self.learner.checkpoint()
        return Checkpoint(
            state.step,
            {**values, "generators": generators},
            {**tensors, "rng": generator_tensors},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of the same run."""
        self.learner.restore(checkpoint.state, checkpoint.tensors)
        restore_rng_states(checkpoint.state["generators"], checkpoint.tensors["rng"], self._device)
