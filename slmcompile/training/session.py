"""A base model and those who learn over it, between two steps.

Knows how to make a step and a validation pass; the loop decides when.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from slmcompile.console.errors import StageFailedError
from slmcompile.machine.signals import StopRequest
from slmcompile.training.batches import Batch, MicroBatch, collate
from slmcompile.training.checkpoint import Checkpoint
from slmcompile.training.determinism import restore_rng_states, rng_states
from slmcompile.training.grouped_lora import only
from slmcompile.training.layout import Layout
from slmcompile.training.learner import Learner
from slmcompile.training.loss import TrainedPositionLoss
from slmcompile.training.losses.positions import positions_of
from slmcompile.training.losses.program import Losses
from slmcompile.training.not_finite import NotFiniteError


class Session:
    """A model on its device and the learners of weights in it.

    Args:
        model: the causal language model, adapters (if any) injected, fused forms installed.
        learners: have the masters of their trained weights.
        device: where the model is.
        layout: what the model's modules know of a batch.
        adapters: what each learner's adapter is called in the model, by member.
        isolated: each learner has a forward pass of its own.
        by_row: the model cannot tell rows apart, so that each has a pass of its own.
    """

    def __init__(
        self,
        model: Any,
        learners: Sequence[Learner],
        device: torch.device,
        layout: Layout,
        adapters: Mapping[str, str],
        *,
        isolated: bool = False,
        by_row: bool = False,
    ) -> None:
        self._model = model
        self._device = device
        self._layout = layout
        self._adapters = adapters
        self._isolated = isolated
        self._by_row = by_row
        self._loss = TrainedPositionLoss(model, device)
        self.learners = tuple(learners)

    @property
    def fused_head(self) -> bool:
        """Whether the head and the loss run as one function."""
        return self._loss.fused

    @property
    def going(self) -> list[Learner]:
        """Those who have steps to make."""
        return [each for each in self.learners if not each.done and not each.failed]

    def train_step(self) -> None:
        """One optimizer step of every learner that has one to make, each over its effective batch.

        The loss of a learner is the mean over all trained tokens of its effective batch, whichever
        micro-batch they are in; their sum is what goes backward. A learner whose loss or gradient
        is NaN or infinite is stopped (``failed``) and moves nobody else.
        """
        started = time.perf_counter()
        going = self.going
        queues = [(each, each.next_micro_batches()) for each in going]
        self._model.train()
        for turn in range(max(len(queue) for _, queue in queues)):
            now = [(each, queue[turn]) for each, queue in queues if turn < len(queue)]
            for together in self._passes(now):
                self._forward_and_backward([t for t in together if not t[0].failed])
        for learner in going:
            if not learner.failed:
                with self._stopping(learner):
                    learner.step(started)

    def _passes(
        self, now: list[tuple[Learner, MicroBatch]]
    ) -> Iterator[list[tuple[Learner, MicroBatch]]]:
        """What goes through the model at once."""
        if self._by_row:
            for learner, each in now:
                for row in each.rows:
                    yield [(learner, MicroBatch(each.member, [row], each.step))]
        elif self._isolated:
            for pair in now:
                yield [pair]
        else:
            yield now

    def _forward_and_backward(self, now: list[tuple[Learner, MicroBatch]]) -> None:
        if not now:
            return
        batch = collate([each for _, each in now], self._device)
        shares = []
        with self._layout.of(batch):
            for (learner, _), losses in zip(now, self._losses(now, batch), strict=True):
                with self._stopping(learner):
                    shares.append(learner.share(losses))
            if shares:
                torch.autograd.backward(sum(shares[1:], shares[0]))
        for learner, _ in now:
            if learner.failed:
                learner.weights.forget_gradients()
            else:
                learner.weights.collect_gradients()

    def _losses(self, now: Sequence[tuple[Learner, MicroBatch]], batch: Batch) -> Iterator[Losses]:
        """Of each learner's part of a batch, by its own loss."""
        if all(learner.loss.plain for learner, _ in now):
            whole = self._loss(batch)
            found = (whole[part.trained] for part in batch.parts)
            yield from (Losses(own, own.detach()) for own in found)
            return
        trained = self._loss.of(batch)
        for (learner, each), part in zip(now, batch.parts, strict=True):
            yield learner.loss(trained(part.trained, positions_of(each.rows, self._device)))

    def validate(self, learner: Learner, stop: StopRequest) -> dict[str, float] | None:
        """``eval_loss``, the mean cross entropy over its validation split, and its metric's value.

        It is cross entropy whatever the learner minimises: weights, gamma and smoothing then move
        nothing by which steps and recipes are compared, and it needs none of the project's code.

        None if a stop was asked for meanwhile; None too where one of them is NaN or infinite, which
        stops the learner (``failed``).
        """
        total, trained = 0.0, 0
        self._model.eval()
        for whole in learner.validation_batches():
            for ((_, each),) in self._passes([(learner, whole)]):
                if stop:
                    return None
                batch = collate([each], self._device)
                with torch.no_grad(), self._layout.of(batch):
                    total += self._loss(batch).sum().item()
                trained += len(batch.targets)
        found, metric = {"eval_loss": total / trained}, None
        if learner.task_metric:
            with only(self._model, self._adapters[learner.member]):
                metric = learner.task_metric.of(self._model, stop)
            if metric is None:
                return None
            found[f"eval_{learner.task_metric.name}"] = metric
        with self._stopping(learner):
            learner.note_validation(found["eval_loss"], metric)
        return None if learner.failed else found

    @contextmanager
    def _stopping(self, learner: Learner) -> Iterator[None]:
        """Notes that a learner has diverged.

        Raises:
            StageFailedError: it has not: the base model holds NaN from the start (exit 1).
        """
        try:
            yield
        except NotFiniteError as error:
            # Before its first step a trained weight is the base model's too.
            first = learner.state.step == 0
            given = (p for p in self._model.parameters() if first or not p.requires_grad)
            if not all(bool(torch.isfinite(p).all()) for p in given):
                raise StageFailedError(
                    f"train: {error.found}: the base model's weights hold NaN or infinite values",
                    "use another base model; this one cannot be trained",
                ) from error
            learner.failed = error

    def checkpoint(self, learner: Learner, cpu_seconds: float, wall_seconds: float) -> Checkpoint:
        """Everything that ``restore`` needs, at the times given; saved before the next step."""
        state = learner.state
        state.cpu_seconds, state.wall_seconds = cpu_seconds, wall_seconds
        generators, generator_tensors = rng_states(self._device)
        values, tensors = learner.checkpoint()
        return Checkpoint(
            state.step,
            {**values, "generators": generators},
            {**tensors, "rng": generator_tensors},
        )

    def restore(self, learner: Learner, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of the same run."""
        learner.restore(checkpoint.state, checkpoint.tensors)
        restore_rng_states(checkpoint.state["generators"], checkpoint.tensors["rng"], self._device)
