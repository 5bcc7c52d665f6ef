"""What a training run is told beside its recipe, and what it has to say afterwards.

Times, speeds and memory are recorded here and nowhere else, so that the weights folder holds only
what two equal runs share. Knows nothing of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainRuntime:
    """Settings that cannot change a result.

    Attributes:
        save_steps: optimizer steps between checkpoints.
        save_total_limit: checkpoints kept.
        logging_steps: optimizer steps between progress lines and ``on_log`` calls.
    """

    save_steps: int = 50
    save_total_limit: int = 2
    logging_steps: int = 5


@dataclass(slots=True)
class CurvePoint:
    """One optimizer step.

    Attributes:
        step: optimizer steps done, from 1.
        epoch: passes over the train split so far, fractional.
        loss: mean over the step's trained tokens of what is minimised; cross entropy in nats where
            the recipe asks for nothing else.
        learning_rate: rate that the step was made with.
        grad_norm: L2 norm of the gradient before clipping.
        tokens: real (unpadded) tokens seen so far.
        seconds: wall time spent in training steps so far, over all resumptions.
        eval_loss: mean cross entropy over the validation split, where it was measured.
        cross_entropy: mean cross entropy in nats over the step's trained tokens, where another loss
            is minimised.
        eval_metric: the metric over its answers, where that decides.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float
    eval_loss: float | None = None
    cross_entropy: float | None = None
    eval_metric: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """The point as JSON."""
        values = asdict(self)
        if self.cross_entropy is None:
            values.pop("cross_entropy")
        return values


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a finished training run reports.

    Attributes:
        curve: one point for every optimizer step.
        best_step: step of the best validation: of the lowest loss, or the best metric.
        best_eval_loss: its loss, nats per trained token.
        saved_step: step whose weights were written.
        train_loss_first: loss of the first step.
        train_loss_last: loss of the last step.
        steps: optimizer steps made.
        epochs: passes over the train split.
        tokens: real tokens seen, prompt and completion.
        trained_tokens: of these, tokens whose prediction was trained.
        tokens_per_second: ``tokens`` by wall seconds spent in training steps.
        cpu_seconds: processor time of the whole run, validation included, over all resumptions.
        wall_seconds: wall time of the same.
        peak_memory_bytes: largest resident size of this process while it trained.
        memory_bytes: resident sizes: ``before_model`` (libraries imported, nothing loaded), and
            the largest while ``loading`` (model, rows, optimizer), in ``training`` steps, in
            ``validation``, while ``saving`` checkpoints and weights. Empty where the system
            cannot tell these apart.
        threads: CPU threads that the numbers depend on.
        cpu_capability: ``ATEN_CPU_CAPABILITY`` that the numbers depend on.
        trainable_parameters: parameters that the optimizer updates.
        total_parameters: all parameters, adapter included, those in 4 bits counted whole.
        fast_paths: how many modules run each of this package's fused forms.
        resumed_from: step of the checkpoint that this process went on from.
        objective: in a few words what was minimised; empty for cross entropy alone.
        metric_for_best_model: the metric that decides; None where the loss does.
        best_metric: its value at ``best_step``.
        answers: answers that validations generated for it.
        early_stopping: where it was asked for ``patience`` and ``threshold`` of it,
            ``planned_steps``, and whether training ``stopped`` before them.
    """

    curve: tuple[CurvePoint, ...]
    best_step: int
    best_eval_loss: float
    saved_step: int
    train_loss_first: float
    train_loss_last: float
    steps: int
    epochs: float
    tokens: int
    trained_tokens: int
    tokens_per_second: float
    cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    memory_bytes: dict[str, int]
    threads: int
    cpu_capability: str
    trainable_parameters: int
    total_parameters: int
    fast_paths: dict[str, int]
    resumed_from: int | None
    objective: str = ""
    metric_for_best_model: str | None = None
    best_metric: float | None = None
    answers: int | None = None
    early_stopping: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values; every point of the curve with the same keys.

        What was not asked for is left out.
        """
        values = {name: getattr(self, name) for name in self.__slots__ if name != "curve"}
        if not self.objective:
            values.pop("objective")
        unasked = {name for name in IF_ASKED if values[name] is None}
        curve = [point.to_json() for point in self.curve]
        if self.metric_for_best_model is None:
            for point in curve:
                del point["eval_metric"]
        return {**{k: v for k, v in values.items() if k not in unasked}, "curve": curve}


def record_from_json(values: Mapping[str, Any]) -> TrainingRecord:
    """What ``to_json`` was made from.

    Raises:
        TypeError: keys are missing or unknown.
    """
    curve = tuple(CurvePoint(**point) for point in values["curve"])
    return TrainingRecord(**{**values, "curve": curve})


IF_ASKED = ("metric_for_best_model", "best_metric", "answers", "early_stopping")
"""What of a record is there only if the recipe asks for it; all of it compares."""

COMPARABLE = (
    *("best_eval_loss", "best_step", "saved_step", "train_loss_first", "train_loss_last"),
    *("steps", "epochs", "tokens", "trained_tokens", "trainable_parameters", "total_parameters"),
)
"""What of a record compares between revisions: nothing of the machine or the moment."""
