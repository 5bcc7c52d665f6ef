"""The metrics that exist, what they need and which way is better. Imports nothing heavy.

The compiler reads names and directions; ``score`` and ``perplexity`` compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from slmcompile.scoring.classification import accuracy, f1_macro
from slmcompile.scoring.exact_match import exact_match

LabelMetric = Callable[[Sequence[str | None], Sequence[str]], float]
TextMetric = Callable[[str, Sequence[str], Sequence[str]], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as in the recipe and in ``metrics.json``.
        higher_is_better: direction, for gates and comparisons.
        needs: ``text`` compares whole answers, ``label`` labels, ``log_likelihood`` the model's
            own probabilities of the references, ``ending`` how its answers ended.
        proportion: a share of right rows, which gets a Wilson interval ``<name>_ci``.
        of_text, of_labels: the function, by what it needs.
    """

    name: str
    higher_is_better: bool
    needs: Literal["text", "label", "log_likelihood", "ending"]
    proportion: bool = False
    of_text: TextMetric | None = None
    of_labels: LabelMetric | None = None


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("exact_match", True, "text", proportion=True, of_text=exact_match),
        Metric("accuracy", True, "label", proportion=True, of_labels=accuracy),
        Metric("f1_macro", True, "label", of_labels=f1_macro),
        Metric("perplexity", False, "log_likelihood"),
        Metric("cut_off", False, "ending", proportion=True),
    )
}

ALWAYS_MEASURED = frozenset({"cut_off"})
"""Measured of every model, whatever ``eval.metrics`` says."""
