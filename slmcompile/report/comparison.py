"""The table of everything that was measured, side by side, and the verdict table of the gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slmcompile.metrics import METRICS
from slmcompile.report.charts import interval
from slmcompile.report.facts import (
    Artifact,
    GateVerdict,
    ReportFacts,
    machines,
    measured_on,
    metric_title,
    shown_metrics,
)
from slmcompile.report.findings import best_baseline
from slmcompile.report.markup import Column, Group, Line, table
from slmcompile.report.sizes import size_sentences
from slmcompile.report.text import MISSING, escape, is_number, number, size
from slmcompile.scoring.compared import p_text, signed

_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Fine-tuned", ("tuned",)),
    ("Exported, as shipped", ("export",)),
    ("For comparison", ("base", "baseline")),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One column: how to show it, and whether an artifact has it at all."""

    heading: str
    show: Callable[[Artifact], str]
    has: Callable[[Artifact], bool]


def measures(facts: ReportFacts) -> list[Measure]:
    """The columns that at least one artifact fills."""
    best = {key: best_baseline(facts, key) for key, metric in METRICS.items() if metric.of_task}
    columns = [
        _metric(each.name, each.title, best.get(each.name))
        for each in shown_metrics(facts.artifacts)
    ]
    columns += [
        _against_tuned(facts),
        Measure(
            "Same answer",
            lambda a: f"{a.agreement:.1%}" if is_number(a.agreement) else MISSING,
            lambda a: is_number(a.agreement),
        ),
        Measure("Size", lambda a: size(a.size_bytes), lambda a: is_number(a.size_bytes)),
        Measure(
            "Tokens/s",
            lambda a: number(a.tokens_per_second, 1),
            lambda a: is_number(a.tokens_per_second),
        ),
        Measure(
            "Peak memory",
            lambda a: size(a.peak_memory_bytes),
            lambda a: is_number(a.peak_memory_bytes),
        ),
    ]
    return [column for column in columns if any(column.has(a) for a in facts.artifacts)]


def _metric(key: str, heading: str, best: Artifact | None) -> Measure:
    def show(artifact: Artifact) -> str:
        value = artifact.metric(key)
        if value is None:
            return MISSING
        shown = f'<span class="figure">{number(value, METRICS[key].digits)}</span>'
        if artifact is best:
            shown = f'<span class="best">{shown}<span class="sign">†</span></span>'
        bounds = artifact.interval(key)
        if key != "exact_match":
            return shown
        limits = f'<small class="ci">{bounds[0]:.3f} to {bounds[1]:.3f}</small>' if bounds else ""
        return f"{interval(value, bounds, artifact.kind)} {shown}{limits}"

    return Measure(heading, show, lambda artifact: artifact.metric(key) is not None)


def _against_tuned(facts: ReportFacts) -> Measure:
    """The difference to the fine-tuned model at the first metric, and what chance has to say."""
    metric = facts.headline_metric

    def show(artifact: Artifact) -> str:
        tuned = facts.tuned
        found = facts.difference(artifact.name, tuned.name, metric) if tuned else None
        if found is None:
            return MISSING
        note = f"{signed(found.low)} to {signed(found.high)}, <br>{escape(p_text(found.p))}"
        return f'{signed(found.value)}<small class="ci">{note}</small>'

    return Measure("Against fine-tuned", show, lambda artifact: show(artifact) != MISSING)


def artifact_table(facts: ReportFacts) -> str:
    """All artifacts in three groups; the best of the baselines is marked at each metric."""
    if not facts.artifacts:
        return ""
    columns = measures(facts)
    lines: list[Line | Group] = []
    for heading, kinds in _GROUPS:
        members = [
            artifact
            for artifact in facts.artifacts
            if artifact.kind in kinds and any(column.has(artifact) for column in columns)
        ]
        if members:
            lines.append(Group(heading))
        lines += [
            Line([escape(a.name), *(column.show(a) for column in columns)], a.kind) for a in members
        ]
    rows = {told for artifact in facts.artifacts if (told := measured_on(artifact))}
    tested = f"the same {rows.pop()}" if len(rows) == 1 else "the test split"
    caption = f"Every artifact measured on {tested}; ranges are 95 % intervals."
    marked = any(best_baseline(facts, key) for key, metric in METRICS.items() if metric.of_task)
    notes = ["† best of the comparisons at this measure."] if marked else []
    if facts.comparisons:
        words = METRICS[facts.headline_metric].words
        notes.append(
            f"Differences are of {words}, row by row: p is the chance of one as large, if there"
            " were none."
        )
    if any(artifact.agreement is not None for artifact in facts.artifacts):
        notes.append("Same answer: the share of rows answered with the fine-tuned model's text.")
    notes += map(escape, size_sentences(facts, facts.artifacts))
    if on := machines(facts.artifacts):
        notes.append(escape(on))
    legend = f'<p class="legend">{" ".join(notes)}</p>' if notes else ""
    heads = [Column("Artifact"), *(Column(column.heading, numeric=True) for column in columns)]
    return table(caption, heads, lines, "wide") + legend


def _small(text: str) -> str:
    return f'<small class="ci">row by row {escape(text)}</small>' if text else ""


def gate_table(gates: list[GateVerdict]) -> str:
    """One line a gate: bar, value, verdict; empty without gates."""
    if not gates:
        return ""
    lines = [
        Line(
            [
                escape(metric_title(gate.metric)),
                escape(gate.artifact),
                f"{escape(gate.bar)}{_small(gate.difference)}",
                number(gate.value),
                '<span class="pass">✓ passed</span>'
                if gate.passed
                else '<span class="fail">✗ failed</span>',
            ]
        )
        for gate in gates
    ]
    heads = [
        Column("Metric"),
        Column("Artifact"),
        Column("Bar", numeric=True),
        Column("Measured", numeric=True),
        Column("Verdict"),
    ]
    return table("Quality gates of the recipe", heads, lines, "narrow")
