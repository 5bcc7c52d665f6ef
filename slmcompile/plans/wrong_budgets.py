"""What is wrong with targets whose precision is chosen, in the recipe that names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from slmcompile.console.errors import BadRecipeError
from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.plans.budgets import auto_targets, candidate_name, resolved
from slmcompile.plans.definition import OF_MEMBER
from slmcompile.providers.keys import Budget, Target
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.schema import Recipe

LONGEST_NAME = 64
"""Characters of a target's or adapter's name, and so of the two joined."""

AROUND_A_BASE = len("quantize--12345678")
"""Characters beside a target's name in that of the pipeline that makes its base."""


def wrong_budgets(composed: Composed) -> Iterator[BadRecipeError]:
    """Choices that cannot be made; one error a target."""
    yield from _wrong_candidates(composed)
    yield from _wrong_training(composed)
    for view in composed.members.values():
        recipe = view.recipe
        for name, target in auto_targets(recipe).items():
            where = f"target.{name}"
            if recipe.train.over:
                yield BadRecipeError(
                    f"{composed.origin(('target', name))}: {where}: its precision is chosen among"
                    " merged candidates, and train.over merges nothing",
                    f"give {where}.precision, or say train.over=null",
                )
            elif wrong := _wrong_metric(recipe, target):
                at = composed.origin(("target", name, "budget", "metric"))
                what, mend = wrong
                yield BadRecipeError(f"{at}: {where}.budget.metric: {what}", mend)


def _wrong_candidates(composed: Composed) -> Iterator[BadRecipeError]:
    """Names that stages cannot have, or of which two would be one."""
    targets, members = auto_targets(composed.whole), [*composed.members]
    names = Counter(candidate_name(t, c) for t, target in targets.items() for c in target.among)
    longest = max((len(member) + len(OF_MEMBER) for member in members if member), default=0)
    for name, target in targets.items():
        for candidate in target.among:
            at = composed.origin(("target", name, "candidates", candidate))
            where = f"{at}: target.{name}.candidates.{candidate}"
            joined = candidate_name(name, candidate)
            if OF_MEMBER in joined:
                yield BadRecipeError(
                    f"{where}: a name with {OF_MEMBER} in it", "choose a name without it"
                )
            elif len(joined) + longest > LONGEST_NAME:
                yield BadRecipeError(
                    f"{where}: {joined} is longer than {LONGEST_NAME - longest} characters",
                    "choose a shorter name for the target or the candidate",
                )
            elif names[joined] > 1:
                yield BadRecipeError(
                    f"{where}: two targets have a candidate that is called {joined}",
                    "choose another name for one of the targets",
                )


def _wrong_training(composed: Composed) -> Iterator[BadRecipeError]:
    """More trainings for candidates than one, or over what is no candidate."""
    first = ""
    for name, target in auto_targets(composed.whole).items():
        over, key = target.train_over, f"target.{name}.train_over"
        at = f"{composed.origin(('target', name, 'train_over'))}: {key}"
        listed = [label for label in target.among if label not in target.trained_for]
        if over is None:
            continue
        if not target.trained_for:
            yield BadRecipeError(
                f"{at}: no candidate is called {over!r}", f"candidates: {', '.join(listed)}"
            )
            continue
        (label,) = target.trained_for
        pipeline = len(candidate_name(name, label)) + AROUND_A_BASE
        if composed.whole.adapters:
            yield BadRecipeError(
                f"{at}: a recipe with several adapters trains them over one base",
                f"take {key} out, or choose in a recipe of one adapter",
            )
        elif label in target.candidates:
            yield BadRecipeError(
                f"{at}: what is trained over {over} is called {label}, as one of the candidates is",
                f"rename target.{name}.candidates.{label}",
            )
        elif candidate_name(name, label) in composed.whole.target:
            yield BadRecipeError(
                f"{at}: what is trained over {over} is called {candidate_name(name, label)}, as one"
                " of the targets is",
                f"rename target.{candidate_name(name, label)}",
            )
        elif pipeline > LONGEST_NAME:
            yield BadRecipeError(
                f"{at}: {candidate_name(name, label)} is longer than"
                f" {LONGEST_NAME - AROUND_A_BASE} characters",
                "choose a shorter name for the target or the candidate",
            )
        elif first:
            yield BadRecipeError(
                f"{at}: one training more is what a recipe may have for its candidates, and"
                f" target.{first} has it",
                f"take {key} out",
            )
        first = first or name


def _wrong_metric(recipe: Recipe, target: Target) -> tuple[str, str] | None:
    """What is wrong with the metric that candidates are held to, and the mend."""
    budget = target.budget or Budget()
    if budget.metric is None:
        if resolved(recipe, target) is None:
            return (
                "no metric of eval.metrics tells that answers are right",
                "name one of them, and max_drop in its own unit: {metric: perplexity, max_drop:"
                " 0.1}",
            )
        return None
    metric = METRICS[budget.metric]
    if not (budget.metric in recipe.eval.metrics or metric.always_of(recipe.data.task)):
        return f"{budget.metric} is not measured", f"add {budget.metric} to eval.metrics"
    if budget.max_drop is None and not metric.bounded:
        return (
            f"{budget.metric} has no largest value of which 3 points were a share",
            "give max_drop, in the metric's own unit",
        )
    return _unasked(recipe, metric)


def _unasked(recipe: Recipe, metric: Metric) -> tuple[str, str] | None:
    if metric.measures(asks=recipe.data.asks):
        return None
    return (
        f"{metric.name} is of answers, and plain text (template completion) asks for none",
        "name one of likelihoods: perplexity",
    )
