"""Peak memory of the stages that hold the model, as intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from slmcompile.data.report_facts import DataFacts
from slmcompile.estimate.build_memory import export_memory, probe_memory, quantize_memory
from slmcompile.estimate.memory import (
    LIBRARIES,
    Rows,
    decoder_of,
    evaluation_memory,
    training_memory,
    validation_answers,
)
from slmcompile.estimate.steps import plan_steps
from slmcompile.estimate.trainable import trainable
from slmcompile.facts.architecture import architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.metrics import METRICS
from slmcompile.plans.beside import stands_beside
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.recipe.schema import Recipe
from slmcompile.shapes.architecture import Architecture
from slmcompile.shapes.interval import Interval, exactly, larger
from slmcompile.templates import TEMPLATES

GB = 1e9
_SHORTEST = 8
"""Tokens of a row about which nothing is known yet; the schema allows no smaller limit."""


@dataclass(frozen=True)
class Memory:
    """Peak resident bytes of the stages that hold the model.

    Attributes:
        training: of ``train``.
        evaluation: of ``answer-torch``.
        quantizing: of ``quantize``, by target.
        probing: of ``probe``, by target.
        exporting: of ``export``, by target.
        choosing: of ``candidate``, by target whose precision is chosen.
    """

    training: Interval
    evaluation: Interval
    quantizing: Mapping[str, Interval] = field(default_factory=dict)
    exporting: Mapping[str, Interval] = field(default_factory=dict)
    choosing: Mapping[str, Interval] = field(default_factory=dict)
    probing: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def building(self) -> dict[str, Mapping[str, Interval]]:
        """Of the kinds of stages that work for a target, by target."""
        return {
            "quantize": self.quantizing,
            "probe": self.probing,
            "candidate": self.choosing,
            "export": self.exporting,
        }

    @property
    def by_kind(self) -> dict[str, Interval]:
        """Of the kinds of stages that there are, in the order in which they are told."""
        building = self.building
        return {
            "train": self.training,
            "answer": self.evaluation,
            **{kind: larger(*of.values()) for kind, of in building.items() if of},
            **({"measure": self.evaluation} if self.choosing else {}),
        }

    @property
    def peak(self) -> Interval:
        """Of the whole run."""
        return larger(*self.by_kind.values())

    def peak_of(self, context: CheckContext) -> Interval:
        """Of those that will run."""
        return larger(*(of for kind, of in self.by_kind.items() if not context.idle(kind)))


def predict(context: CheckContext) -> Memory | None:
    """The interval now; None before the model's shapes are known, or if they are unfamiliar."""
    model = architecture_of(context)
    decoder = decoder_of(model) if model is not None else None
    if model is None or decoder is None:
        return None
    recipe, rows = context.recipe, rows_of(context.recipe, context.data)
    steps = plan_steps(recipe.train, rows.train).max_steps if rows.train else 1 << 30
    found = trainable(recipe.train, model)
    metric = METRICS.get(recipe.train.metric_for_best_model)
    answering = None
    if metric is not None:
        answering = validation_answers(
            recipe.eval, recipe.train, decoder, rows, generates=metric.generates
        )
    training = training_memory(recipe.train, model, decoder, found, rows, steps, answering)
    read = larger(*(_read_back(target, model) for target in _trained_over(recipe)), exactly(0))
    for other in context.trained_with:
        # The base is there once; rows, activations, adapters and their optimizers are everyone's.
        shared = METHODS[recipe.train.method].memory.base(recipe.train, model)
        alone = predict(replace(other, trained_with=()))
        if alone is not None:
            training += Interval(
                max(0.0, alone.training.low - shared - LIBRARIES.low),
                max(0.0, alone.training.high - shared - LIBRARIES.high - read.high),
            )
    return Memory(
        training + read,
        evaluation_memory(recipe.eval, recipe.train, model, decoder, rows) + read,
        {
            name: quantize_memory(each, model)
            for name, target in recipe.target.items()
            for each in ([target] if stands_beside(recipe, name) else target.trained_for.values())
        },
        {
            name: export_memory(
                *(target, model, found.adapter, decoder.vocabulary, rows),
                builds=not stands_beside(recipe, name),
                again="nodes" in METHODS[recipe.train.method].forms,
            )
            for name, target in recipe.target.items()
            if not target.is_auto
        },
        {
            name: larger(
                *(
                    export_memory(
                        *(each, model, found.adapter, decoder.vocabulary, rows),
                        builds=label not in target.trained_for,
                    )
                    for label, each in target.among.items()
                )
            )
            for name, target in recipe.target.items()
            if target.is_auto
        },
        {
            name: probe_memory(model, decoder.vocabulary, rows)
            for name, target in recipe.target.items()
            if any(PROVIDERS[target.execution_provider].probed(each) for each in target.built)
        },
    )


def _trained_over(recipe: Recipe) -> list[Target]:
    """Targets and candidates whose quantised bases are trained over."""
    over = recipe.train.over
    chosen = [each for target in recipe.target.values() for each in target.trained_for.values()]
    return [recipe.target[over]] if over in recipe.target else chosen


def _read_back(target: Target, model: Architecture) -> Interval:
    """Bytes of reading the weights of a quantised base: its file, and one matrix of them.

    A head that its graph has apart from the embedding comes on top; it is no larger than that.
    """
    file = PROVIDERS[target.execution_provider].bytes(target, model)
    largest = max((rows * width for rows, width in model.layers.values()), default=0)
    return Interval(0, file + 8.0 * largest)


def rows_of(recipe: Recipe, data: DataFacts | None) -> Rows:
    """Lengths from the ``data`` stage's report, or no more than the recipe's limit before it.

    A batch has rows of like length, so the longest one is between the 95th percentile and the
    maximum. In conversations every assistant's turn is trained, not the last alone.
    """
    if data is None:
        any_length = Interval(_SHORTEST, recipe.data.max_length)
        return Rows(
            any_length, Interval(1, recipe.data.max_length), any_length, None, None, varied=True
        )
    lengths = data.report["lengths"]
    total, answer, prompt = lengths["total"], lengths["answer"], lengths["prompt"]
    every = any(TEMPLATES[part.template.type].every_turn for part in recipe.data.parts)
    test, validation = data.rows["test"], data.rows["validation"]
    limit = recipe.train.eval_limit
    return Rows(
        longest=Interval(total["percentiles"]["p95"], total["max"]),
        trained=Interval(answer["min"], total["max"] if every else answer["max"]),
        prompt=Interval(prompt["max"], prompt["max"]),
        train=data.rows["train"],
        test=test if recipe.eval.limit is None else min(test, recipe.eval.limit),
        varied=total["min"] < total["max"],
        answered=validation if limit is None else min(validation, limit),
    )


def shown(amount: Interval) -> str:
    """``2.1–2.9 GB``."""
    low, high = f"{amount.low / GB:.1f}", f"{amount.high / GB:.1f}"
    return f"{low} GB" if low == high else f"{low}–{high} GB"
