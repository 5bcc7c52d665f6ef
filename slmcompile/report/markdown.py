"""``report.md``: the essentials of the report as GitHub Markdown, fit for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from slmcompile.metrics import METRICS
from slmcompile.report.by_label import by_label
from slmcompile.report.by_source import by_source
from slmcompile.report.cases import MOST_WRONG, Case, cases
from slmcompile.report.facts import (
    Artifact,
    ReportFacts,
    machines,
    measured_on,
    metric_title,
    shown_metrics,
)
from slmcompile.report.findings import all_findings, verdict
from slmcompile.report.frontier import frontiers_markdown
from slmcompile.report.headline import headline
from slmcompile.report.inert import block, code, prose
from slmcompile.report.method import fine_tuned, licence, overridden, trained_by
from slmcompile.report.shown_data import ShownData, shown_data
from slmcompile.report.sizes import size_sentences
from slmcompile.report.text import MISSING, count, is_number, number, size
from slmcompile.scoring.classification import LabelScores
from slmcompile.scoring.compared import interval_text

_MOST_CASES = 8
_MOST_LABELS = 30
_LONGEST_LABEL = 60


def markdown(facts: ReportFacts) -> str:
    """The report as Markdown; every value that is not ours is made inert."""
    parts = [
        f"# {prose(facts.title)}",
        prose(facts.description),
        f"{prose(facts.model_name)} ({prose(licence(facts.model_license))}) "
        f"{prose(fine_tuned(facts.recipe.get('train', {})))} on "
        f"{prose(facts.data_name)} ({prose(licence(facts.data_license))}).",
        prose(trained_by(facts.trained_by)),
        f"**{prose(over)}**" if (over := overridden(facts.overrides)) else "",
        _verdict(facts),
        "  \n".join(f"{i.name}: **{prose(i.value)}** ({prose(i.note)})" for i in headline(facts)),
        _part("Results", _results(facts)),
        "\n".join(f"- {prose(sentence)}" for sentence in all_findings(facts)),
        _gates(facts),
        _part("Choice", frontiers_markdown(facts)),
        _part("Sources", _sources(facts)),
        _labels(facts),
        _part("Data", _data(shown_data(facts.data_report))),
        _part("Wrong predictions", _predictions(facts)),
        _part("Recipe", _recipe(facts)),
        _part("Provenance", _provenance(facts)),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _part(heading: str, content: str) -> str:
    return f"## {heading}\n\n{content}" if content else ""


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A Markdown table of cells that are Markdown already; empty without rows."""
    if not rows:
        return ""
    rule = ["--:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _verdict(facts: ReportFacts) -> str:
    passed, sentence = verdict(facts)
    sign = {True: "✅ ", False: "❌ ", None: ""}[passed]
    return f"**{sign}{sentence}**"


def _results(facts: ReportFacts) -> str:
    rows = {told for artifact in facts.artifacts if (told := measured_on(artifact))}
    lead = f"Measured on {rows.pop()}.\n\n" if len(rows) == 1 else ""
    table = artifact_rows(facts, facts.artifacts)
    return table and f"{lead}{table}"


def artifact_rows(facts: ReportFacts, artifacts: Sequence[Artifact]) -> str:
    """The comparison as a table."""
    metrics = shown_metrics(artifacts)
    heads = ["Artifact", "Kind", *(metric.title for metric in metrics)]
    compared = bool(facts.comparisons)
    if compared:
        heads += [f"{metric_title(facts.headline_metric)} against fine-tuned", "Same answer"]
    heads += ["Size", "Tokens/s", "Peak memory"]
    rows = [
        [
            prose(a.name),
            a.kind,
            *(_metric(a, metric.name) for metric in metrics),
            *(_against_tuned(facts, a) if compared else ()),
            size(a.size_bytes),
            number(a.tokens_per_second, 1),
            size(a.peak_memory_bytes),
        ]
        for a in artifacts
        if a.metrics or a.size_bytes
    ]
    table = grid(heads, rows, [False, False] + [True] * (len(heads) - 2))
    notes = [*size_sentences(facts, artifacts), machines(artifacts)]
    said = " ".join(prose(note) for note in notes if note)
    return f"{table}\n\n{said}" if table and said else table


def _metric(artifact: Artifact, key: str) -> str:
    value, bounds = artifact.metric(key), artifact.interval(key)
    shown = number(value, METRICS[key].digits)
    return f"{shown} ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else shown


def _against_tuned(facts: ReportFacts, artifact: Artifact) -> tuple[str, str]:
    tuned = facts.tuned
    found = tuned and facts.difference(artifact.name, tuned.name, facts.headline_metric)
    same = f"{artifact.agreement:.1%}" if is_number(artifact.agreement) else MISSING
    return interval_text(found) if found else MISSING, same


def _gates(facts: ReportFacts) -> str:
    rows = [
        [
            prose(metric_title(gate.metric)),
            prose(gate.artifact),
            prose(f"{gate.bar}; row by row {gate.difference}" if gate.difference else gate.bar),
            number(gate.value),
            "✅ passed" if gate.passed else "❌ failed",
        ]
        for gate in facts.gates
    ]
    heads = ["Gate", "Artifact", "Bar", "Measured", "Verdict"]
    return grid(heads, rows, [False, False, True, True, False])


def _sources(facts: ReportFacts) -> str:
    found = by_source(facts)
    if found is None:
        return ""
    heads = ["Source", "Artifact", *(metric.title for metric in found.metrics)]
    rows = [
        [prose(source.heading) if at == 0 else "", prose(name), *map(prose, cells)]
        for source in found.sources
        for at, (name, cells) in enumerate(source.lines)
    ]
    shown = grid(heads, rows, [False, False] + [True] * len(found.metrics))
    return f"{found.caption}.\n\n{shown}"


def _labels(facts: ReportFacts) -> str:
    found = by_label(facts, _MOST_LABELS)
    if found is None:
        return ""
    rows = [
        [code(label, _LONGEST_LABEL), count(support), *map(_scores, scores)]
        for label, support, scores in found.rows
    ]
    heads = ["Label", "Rows", *map(prose, found.artifacts)]
    shown = grid(heads, rows, [False] + [True] * (len(heads) - 1))
    return f"<details><summary>{found.caption}</summary>\n\n{shown}\n\n</details>"


def _scores(scores: LabelScores) -> str:
    beside = f"{number(scores.precision, 2)}, {number(scores.recall, 2)}"
    return f"{number(scores.f1, 2)} ({beside})"


def _data(data: ShownData) -> str:
    if not data.rows:
        return ""
    happened = [f"{what}: {count(n)}" for what, n in data.notes.items() if n]
    rows = ", ".join(f"{prose(split)} {count(n)}" for split, n in data.rows.items())
    quality = "; ".join(happened) or "no duplicates, contradictions or leaks found"
    labels = f" {len(data.labels)} labels." if data.labels else ""
    said = "".join(f"\n\n{prose(line)}." for line in data.said)
    return f"Rows: {rows}.{labels} Checks: {quality}.{said}"


def _predictions(facts: ReportFacts) -> str:
    chosen = cases(facts)
    if not chosen.total:
        return ""
    lead = (
        f"{count(chosen.wrong_total)} of {count(chosen.total)} test rows measured are wrong in "
        "at least one fine-tuned or exported model."
    )
    shown = chosen.wrong[:_MOST_CASES]
    if len(shown) < chosen.wrong_total:
        lead += f" The first {len(shown)} are here; report.html has up to {MOST_WRONG}."
    rows = [row for case in shown for row in _case(case)]
    heads = ["Input", "Reference", "Artifact", "Answer"]
    return f"{lead}\n\n{grid(heads, rows, [False] * 4)}"


def _case(case: Case) -> list[list[str]]:
    asked = [code(case.ask), code(case.reference)]
    return [
        [
            *(asked if at == 0 else ["", ""]),
            ("✅ " if answer.correct else "❌ ") + prose(", ".join(answer.artifacts)),
            code(answer.text),
        ]
        for at, answer in enumerate(case.answers)
    ]


def _recipe(facts: ReportFacts) -> str:
    if not facts.recipe:
        return ""
    text = yaml.safe_dump(dict(facts.recipe), sort_keys=False, allow_unicode=True, width=96)
    return (
        f"<details><summary>Effective configuration</summary>\n\n{block(text, 'yaml')}\n</details>"
    )


def _provenance(facts: ReportFacts) -> str:
    tables = (
        (["Artifact", "SHA-256 of its manifest"], facts.hashes),
        (["Package", "Version"], facts.packages),
    )
    return "\n\n".join(
        grid(heads, [[prose(k), code(v)] for k, v in sorted(values.items())], [False, False])
        for heads, values in tables
        if values
    )
