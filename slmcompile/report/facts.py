"""What a report is made of, as plain frozen data; nothing here reads a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.scoring.classification import LabelScores
from slmcompile.scoring.compared import Comparison, answered_by, measured_by
from slmcompile.scoring.paired import Difference

Kind = Literal["tuned", "base", "export", "baseline"]


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate of the recipe and what became of it.

    Attributes:
        metric: the metric's key.
        artifact: ``torch`` or the name of a target.
        bar: the bar in words (``≥ 0.70``, ``drop ≤ 0.02``).
        value: the measured value; None if it was not measured.
        passed: whether the bar was met.
        difference: of a bar on a drop, the artifact against the tuned model row by row, in words.
    """

    metric: str
    artifact: str
    bar: str
    value: float | None
    passed: bool
    difference: str = ""


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
        rows, test_rows: rows it was measured on, and rows of the test split.
        labels, test_labels: the same of their labels; None where labels are no fixed set.
        turns: trained turns of those rows.
        references: different answers that those rows ask for.
        machine: what its speed and memory were measured on.
        agreement: share of rows that an export answers as the tuned model does.
        parity: an export's logits against the tuned model's on a few rows, given the references.
        path: where the artifact lies, relative to the project.
        adapter: in that folder, the file of the adapter that a program has to choose; None where it
            has no choice.
        adapter_bytes: size of that file.
        adapters: how many the folder has to choose from.
        ran: ``emulated`` where the CPU's provider has run a graph for another, ``simulated`` where
            a simulator of its processor has, ``generated`` where its weights were run in fp32; None
            elsewhere.
        sources: of several sources the same metrics of each alone, by its name, with ``rows``,
            ``test_rows`` and whether it is ``counted`` as of the task.
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
    adapter: str | None = None
    adapter_bytes: int | None = None
    adapters: int | None = None
    test_rows: int | None = None
    labels: int | None = None
    test_labels: int | None = None
    turns: int | None = None
    references: int | None = None
    agreement: float | None = None
    machine: str | None = None
    ran: str | None = None
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
        prompt: the data stage's ``prompt.json``.
        training: the training record (curve, best_step, tokens_per_second, …).
        artifacts: measured artifacts, the tuned model first.
        predictions: artifact → its predictions on the same test rows.
        comparisons: artifacts against one another on those rows.
        labels: artifact → scores of each label, the most frequent first; empty without labels.
        hashes: artifact → SHA-256 of its manifest.
        packages: package → version.
        member: which adapter's, of a recipe with several; else empty.
        trained_by: the recipe that trained it, where that is another; else empty.
        continued_from: fingerprint of the training that this one went on from; empty if none.
        trained_over: fingerprint of the quantised base that was trained over; empty if none.
        rounding_error: what that base's weights have lost of the base model's, as a share of them
            (Frobenius norm); None if none.
        frontiers: of a target whose precision was chosen, what the ``choose`` stage wrote.
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
    prompt: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    labels: Mapping[str, Sequence[LabelScores]] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    frontiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    member: str = ""
    trained_by: str = ""
    continued_from: str = ""
    trained_over: str = ""
    rounding_error: float | None = None

    @property
    def title(self) -> str:
        """What it is about: the recipe, or one adapter of it."""
        return f"{self.name} / {self.member}" if self.member else self.name

    def of_kind(self, *kinds: Kind) -> list[Artifact]:
        """The artifacts of some kinds, in order."""
        return [artifact for artifact in self.artifacts if artifact.kind in kinds]

    @property
    def tuned(self) -> Artifact | None:
        """The fine-tuned model itself."""
        return next(iter(self.of_kind("tuned")), None)

    @property
    def headline_metric(self) -> str:
        """The first metric that the fine-tuned model was measured at, as the recipe has them."""
        asked = [key for key in self.recipe.get("eval", {}).get("metrics", ()) if key in METRICS]
        measured = (
            key
            for key in dict.fromkeys((*asked, *METRICS))
            if self.tuned and self.tuned.metric(key) is not None
        )
        return next(measured, next(iter(METRICS)))

    def difference(self, one: str, other: str, metric: str) -> Difference | None:
        """One artifact minus another at a metric, row by row; None where they were not compared."""
        for each in self.comparisons:
            for way in (each, each.reversed()):
                if (way.one, way.other, way.metric) == (one, other, metric):
                    return way.difference
        return None

    @property
    def task(self) -> str:
        """The recipe's task."""
        return str(self.recipe.get("data", {}).get("task", "generation"))


_STRUCTURED = frozenset({"gates", "artifacts", "predictions", "comparisons", "labels"})


_BESIDE_METRICS = (
    *("rows", "test_rows", "labels", "test_labels", "turns", "references"),
    *("size_bytes", "tokens_per_second", "peak_memory_bytes", "agreement", "machine", "sources"),
    "ran",
)


def artifact_of(
    name: str, measured: Mapping[str, Any], targets: Collection[str], **more: Any
) -> Artifact:
    """An artifact from what ``evaluate`` wrote of it; ``more`` are other attributes."""
    kinds: dict[str, Kind] = {"torch": "tuned", "base": "base", **dict.fromkeys(targets, "export")}
    beside = {key: measured[key] for key in _BESIDE_METRICS if key in measured}
    metrics = {key: value for key, value in measured.items() if key not in beside}
    return Artifact(name, kinds.get(name, "baseline"), metrics=metrics, **beside, **more)


def shown_metrics(artifacts: Sequence[Artifact]) -> list[Metric]:
    """What a table of these artifacts has columns for."""
    return [
        metric
        for metric in METRICS.values()
        if any(
            value is not None and (value or not metric.silent_at_zero)
            for value in (artifact.metric(metric.name) for artifact in artifacts)
        )
    ]


def metric_title(name: str) -> str:
    """A metric's heading; its name where this version does not know it."""
    return METRICS[name].title if name in METRICS else name


def measured_on(artifact: Artifact) -> str:
    """``120 of 480 test rows, 12 labels (…)`` with how a sample is drawn; empty if unknown."""
    if artifact.rows is None:
        return ""
    rows = _of(artifact.rows, artifact.test_rows, "test row")
    if artifact.turns is not None and artifact.turns > artifact.rows:
        rows += (
            f" with {artifact.turns:,} trained turns (answers are to the last of each row, "
            "perplexity is of all)"
        )
    if artifact.labels is None:
        return rows
    drawn = ""
    if artifact.test_rows not in {None, artifact.rows}:
        drawn = " (each label once, then by frequency)"
        if artifact.labels != artifact.test_labels:
            drawn = " (the most frequent, one row each)"
    return f"{rows}, {_of(artifact.labels, artifact.test_labels, 'label')}{drawn}"


def machines(artifacts: Sequence[Artifact]) -> str:
    """What speeds and memory were measured on, in a sentence; empty where nobody says."""
    timed = {each.name: each.machine for each in artifacts if each.tokens_per_second is not None}
    exports = {each.name: each.ran or "verified" for each in artifacts if each.kind == "export"}
    return " ".join(filter(None, (measured_by(timed), answered_by(exports))))


def _of(part: int, whole: int | None, what: str) -> str:
    among = f" of {whole:,}" if whole not in (None, part) else ""
    return f"{part:,}{among} {what}{'' if (whole or part) == 1 else 's'}"


def facts_from(value: Mapping[str, Any]) -> ReportFacts:
    """``ReportFacts`` from plain JSON with the same names; absent keys take their defaults."""
    known = {
        name: value[name]
        for name in ReportFacts.__dataclass_fields__
        if name in value and name not in _STRUCTURED
    }
    return ReportFacts(
        gates=[GateVerdict(**gate) for gate in value.get("gates", ())],
        artifacts=[Artifact(**artifact) for artifact in value.get("artifacts", ())],
        comparisons=[
            Comparison(**{**each, "difference": Difference(**each["difference"])})
            for each in value.get("comparisons", ())
        ],
        labels={
            name: [LabelScores(**each) for each in listed]
            for name, listed in value.get("labels", {}).items()
        },
        predictions={
            name: [Prediction(**row) for row in rows]
            for name, rows in value.get("predictions", {}).items()
        },
        **known,
    )
