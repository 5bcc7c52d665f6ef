"""Quality gates: bars on measured metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.metrics.registry import METRICS
from slmcompile.recipe.schema import Gate


@dataclass(frozen=True)
class Verdict:
    """One bar of one gate, judged.

    Attributes:
        metric: what was measured.
        artifact: on which artifact.
        bar: the bar, as text (``≥ 0.6``).
        value: the measured value.
        passed: whether the bar was met.
    """

    metric: str
    artifact: str
    bar: str
    value: float
    passed: bool

    @property
    def text(self) -> str:
        """``exact_match of cpu-int8 is 0.71, bar ≥ 0.6``."""
        return f"{self.metric} of {self.artifact} is {self.value:.4g}, bar {self.bar}"


def judge(gates: Sequence[Gate], measured: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Judges every bar of every gate; ``measured`` is artifact → metric → value."""
    verdicts: list[Verdict] = []
    for gate in gates:
        value = float(measured[gate.artifact][gate.metric])
        bars: list[tuple[str, bool]] = []
        if gate.min is not None:
            bars.append((f"≥ {gate.min:g}", value >= gate.min))
        if gate.max is not None:
            bars.append((f"≤ {gate.max:g}", value <= gate.max))
        if gate.max_drop is not None:
            reference = float(measured["torch"][gate.metric])
            higher_is_better = METRICS[gate.metric].higher_is_better
            drop = reference - value if higher_is_better else value - reference
            bars.append(
                (f"within {gate.max_drop:g} of torch's {reference:.4g}", drop <= gate.max_drop)
            )
        verdicts += [
            Verdict(gate.metric, gate.artifact, bar, value, passed) for bar, passed in bars
        ]
    return verdicts
