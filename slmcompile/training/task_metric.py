"""A metric over answers to the validation split, measured by the model that trains.

The rows are asked, and their answers scored, by what the stages ``answer`` and ``score`` use: over
the same weights both find the same, but for what rounding moves. It differs from what ships in
one thing: the model is as it trains, in its precision and with its adapter beside the base.

Draws no random number and changes no weight; the model is left in eval mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.data.sample import sample
from slmcompile.data.store import Row
from slmcompile.inference.answers import ask, decoder, lines
from slmcompile.inference.torch_model import TorchModel, stop_ids
from slmcompile.machine.signals import StopRequest
from slmcompile.metrics.metric import Metric
from slmcompile.scoring.records import Asked, Beside, columns_of, records
from slmcompile.scoring.score import measurable, measure_of


@dataclass(frozen=True)
class Answering:
    """What of a recipe says how the validation split is answered and scored.

    Attributes:
        metric: what is measured.
        asked: how answers are read.
        labelled: whether a row's label is one of a fixed set.
        seed: of the sample.
        max_new_tokens: longest answer.
        batch_size: most prompts at once.
        read: what the metric is computed with beside rows and answers.
        limit: rows of the split that are taken; None takes all.
    """

    metric: Metric
    asked: Asked
    labelled: bool
    seed: int
    max_new_tokens: int
    batch_size: int
    read: Beside = field(default_factory=lambda: Beside({}, {}))
    limit: int | None = None


class TaskMetric:
    """The metric of one learner.

    Args:
        answering: how.
        validation: rows of the validation split.
        base: folder of the base model.

    Raises:
        BadDataError: no row that the metric could be measured on (exit 65).
    """

    def __init__(self, answering: Answering, validation: Sequence[Row], base: Path) -> None:
        metric = answering.metric
        self._answering = answering
        self._generates = metric.generates
        chosen = sample(validation, answering.limit, answering.seed, labelled=answering.labelled)
        self._rows = [row for row in chosen if (row.asked if self._generates else row.counted)]
        if not self._rows:
            raise BadDataError(
                f"train.metric_for_best_model: {metric.name}: the validation split has no row"
                f" {'that asks for an answer' if self._generates else 'of the task'}",
                "choose loss",
            )
        self._by_id = {row.id: row for row in self._rows}
        self._measure = measure_of(metric)
        self._columns = [column for _, column in columns_of([metric], answering.read)]
        self._decode = decoder(base)
        self._stops = stop_ids(base)

    @property
    def name(self) -> str:
        """Of the metric."""
        return self._answering.metric.name

    @property
    def answers(self) -> int:
        """Answers that a measurement generates."""
        return len(self._rows) if self._generates else 0

    def of(self, model: Any, stop: StopRequest) -> float | None:
        """Its value; None if a stop was asked for meanwhile.

        Args:
            model: a causal language model of transformers, whose active adapter is the learner's.
            stop: looked at after every batch.
        """
        answering = self._answering
        speaker = TorchModel(model, self._stops)

        def look(_done: int) -> None:
            if stop:
                raise _StoppedError

        try:
            if self._generates:
                told = lines(
                    self._rows,
                    ask(
                        speaker,
                        self._rows,
                        self._decode,
                        answering.max_new_tokens,
                        answering.batch_size,
                        look,
                    ),
                )
            else:
                told = lines(self._rows, {}, speaker.log_likelihood(self._rows, look))
        except _StoppedError:
            return None
        found = records(told, self._by_id, answering.asked, self._columns)
        return self._measure.value(measurable(found, answering.metric))


class _StoppedError(Exception):
    """Leaves the generation that a stop interrupts."""
