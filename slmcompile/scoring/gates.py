"""Quality gates: bars on measured metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.metrics import METRICS
from slmcompile.plans.artifacts import TUNED
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.compared import Comparison, interval_text
from slmcompile.scoring.paired import Difference


@dataclass(frozen=True)
class Verdict:
    """One bar of one gate, judged.

    Attributes:
        metric: what was measured.
        artifact: on which artifact.
        bar: the bar, as text (``≥ 0.6``).
        value: the measured value.
        passed: whether the bar was met.
        difference: of a bar on a drop, the artifact minus torch, row by row; None where their rows
            are not there, or the bar is of one source alone. The bar is held against the measured
            values, whatever its interval, unless it is one on a loss ``beyond_chance``.
    """

    metric: str
    artifact: str
    bar: str
    value: float
    passed: bool
    difference: Difference | None = None

    @property
    def text(self) -> str:
        """``exact_match of cpu-int8 is 0.71, bar ≥ 0.6``."""
        said = f"{self.metric} of {self.artifact} is {self.value:.4g}, bar {self.bar}"
        return f"{said}; row by row {interval_text(self.difference)}" if self.difference else said


def measured_of(
    gate: Gate, measured: Mapping[str, Mapping[str, Any]], artifact: str
) -> Mapping[str, Any]:
    """What an artifact was measured at, of the rows that a gate is about; empty of none."""
    found = measured.get(artifact, {})
    if gate.source is None:
        return found
    own: Mapping[str, Any] = found.get("sources", {}).get(gate.source, {})
    return own


def judge(
    gates: Sequence[Gate],
    measured: Mapping[str, Mapping[str, Any]],
    found: Sequence[Comparison] = (),
) -> list[Verdict]:
    """Judges every bar of every gate.

    Args:
        gates: the recipe's.
        measured: artifact → metric → value.
        found: comparisons, of which those that a bar on a drop is about are told with it.
    """
    drops = {(each.one, each.metric): each.difference for each in found if each.other == TUNED}
    verdicts: list[Verdict] = []
    for gate in gates:
        value = float(measured_of(gate, measured, gate.artifact)[gate.metric])
        bars: list[tuple[str, bool, Difference | None]] = []
        if gate.min is not None:
            bars.append((f"≥ {gate.min:g}", value >= gate.min, None))
        if gate.max is not None:
            bars.append((f"≤ {gate.max:g}", value <= gate.max, None))
        if gate.max_drop is not None:
            reference = float(measured_of(gate, measured, TUNED)[gate.metric])
            higher_is_better = METRICS[gate.metric].higher_is_better
            drop = reference - value if higher_is_better else value - reference
            drop = round(drop, 9)  # 0.03 of 1 is 0.03, whatever is left of a subtraction
            bar = f"within {gate.max_drop:g} of torch's {reference:.4g}"
            difference = None if gate.source else drops.get((gate.artifact, gate.metric))
            by_chance = gate.beyond_chance and difference and not difference.significant
            bar += ", or by chance (the default bar)" if gate.beyond_chance else ""
            bars.append((bar, drop <= gate.max_drop or bool(by_chance), difference))
        of = f" (source {gate.source})" if gate.source else ""
        verdicts += [
            Verdict(gate.metric, gate.artifact, f"{bar}{of}", value, passed, difference)
            for bar, passed, difference in bars
        ]
    return verdicts
