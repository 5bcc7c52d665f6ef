"""What a report is made of, as plain frozen data; nothing here reads a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["tuned", "base", "export", "baseline"]

METRICS: tuple[tuple[str, str], ...] = (
    ("exact_match", "Exact match"),
    ("accuracy", "Accuracy"),
    ("f1_macro", "F1 (macro)"),
    ("perplexity", "Perplexity"),
)
"""Metric keys and their headings, in the order of every table."""

METRIC_WORDS = {
    "exact_match": "exact match",
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
    "perplexity": "perplexity",
}
"""Metric keys as they stand in a sentence."""

HIGHER_IS_BETTER = ("exact_match", "accuracy", "f1_macro")
"""Metrics in 0…1 of which more is better; perplexity is the other way round."""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate of the recipe and what became of it.

    Attributes:
        metric: the metric's key.
        artifact: ``torch`` or the name of a target.
        bar: the bar in words (``≥ 0.70``, ``drop ≤ 0.02``).
        value: the measured value; None if it was not measured.
        passed: whether the bar was met.
    """

    metric: str
    artifact: str
    bar: str
    value: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Artifact:
    """One measured thing: the tuned model, the base model, an export or a baseline.

    Attributes:
        name: ``torch``, ``base``, a target's name, or a baseline's name.
        kind: what it is.
        size_bytes: size on disk; None where that means nothing.
        metrics: metric → value, and ``<metric>_ci`` → [low, high] (95 %).
        tokens_per_second: single-stream decoding speed.
        peak_memory_bytes: largest resident set while evaluating.
        rows: test rows evaluated.
        parity: an export's distance from the tuned model (``top1_agreement``, …).
        path: where the artifact lies, relative to the project.
    """

    name: str
    kind: Kind
    size_bytes: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    rows: int | None = None
    parity: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None

    def metric(self, name: str) -> float | None:
        """A metric's value, or None if it was not measured."""
        value = self.metrics.get(name)
        return None if value is None else float(value)

    def interval(self, name: str) -> tuple[float, float] | None:
        """A metric's 95 % interval, or None."""
        value = self.metrics.get(f"{name}_ci")
        return None if not value else (float(value[0]), float(value[1]))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One test row as one artifact answered it. All text is untrusted."""

    id: int
    prompt: str
    reference: str
    prediction: str
    correct: bool


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """Everything a report shows. See ``facts_from`` for the JSON form.

    Attributes:
        name: the recipe's name.
        description: one sentence; may be empty.
        overrides: what the run had beside the recipe's file.
        recipe: the effective configuration.
        gates: verdicts, in the recipe's order.
        data_report: the data stage's ``data_report.json``.
        training: the training record (curve, best_step, tokens_per_second, …).
        artifacts: measured artifacts, the tuned model first.
        predictions: artifact → its predictions on the same test rows.
        hashes: artifact → SHA-256 of its manifest.
        packages: package → version.
    """

    name: str
    description: str = ""
    overrides: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    gates: Sequence[GateVerdict] = ()
    model_name: str = ""
    model_license: str = "unknown"
    data_name: str = ""
    data_license: str = "unknown"
    data_report: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    def of_kind(self, *kinds: Kind) -> list[Artifact]:
        """The artifacts of some kinds, in order."""
        return [artifact for artifact in self.artifacts if artifact.kind in kinds]

    @property
    def tuned(self) -> Artifact | None:
        """The fine-tuned model itself."""
        return next(iter(self.of_kind("tuned")), None)

    @property
    def task(self) -> str:
        """The recipe's task."""
        return str(self.recipe.get("data", {}).get("task", "generation"))


def facts_from(value: Mapping[str, Any]) -> ReportFacts:
    """``ReportFacts`` from plain JSON with the same names; absent keys take their defaults."""
    known = {
        name: value[name]
        for name in ReportFacts.__dataclass_fields__
        if name in value and name not in {"gates", "artifacts", "predictions"}
    }
    return ReportFacts(
        gates=[GateVerdict(**gate) for gate in value.get("gates", ())],
        artifacts=[Artifact(**artifact) for artifact in value.get("artifacts", ())],
        predictions={
            name: [Prediction(**row) for row in rows]
            for name, rows in value.get("predictions", {}).items()
        },
        **known,
    )
