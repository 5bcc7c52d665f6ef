"""``report.html``: the whole report of one recipe on one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from slmcompile.metrics import METRICS
from slmcompile.report.by_label import by_label
from slmcompile.report.by_source import by_source
from slmcompile.report.cases import Case, cases
from slmcompile.report.charts import Mark, Series, line_chart
from slmcompile.report.comparison import artifact_table, gate_table
from slmcompile.report.data_section import data_section
from slmcompile.report.facts import ReportFacts
from slmcompile.report.findings import (
    all_findings,
    early_stop_sentence,
    kept_step,
    validation_sentence,
    verdict,
)
from slmcompile.report.frontier import frontiers
from slmcompile.report.headline import headline
from slmcompile.report.markup import Column, Group, Line, document, figure, section, table
from slmcompile.report.method import fine_tuned, licence, overridden, trained_by
from slmcompile.report.shown_data import shown_data
from slmcompile.report.text import MISSING, count, duration, escape, number, shorten, size
from slmcompile.report.word_diff import difference
from slmcompile.scoring.classification import LabelScores

_LONGEST_ANSWER = 1500
_LONGEST_LABEL = 60
_MOST_LABELS = 60


def page(facts: ReportFacts) -> str:
    """The report as HTML: verdict, comparison, training, data, predictions, recipe, provenance."""
    body = "".join(
        [
            _header(facts),
            section(
                "Results", artifact_table(facts), _findings(facts), gate_table(list(facts.gates))
            ),
            section("Choice", frontiers(facts)),
            section("Sources", _sources(facts)),
            section("Labels", _labels(facts)),
            section("Training", _training(facts.training)),
            section("Data", data_section(shown_data(facts.data_report))),
            section("Predictions", _predictions(facts)),
            section("Recipe", _recipe(facts)),
            section("Provenance", _provenance(facts)),
            "<footer>Made by slmcompile from the recorded outputs of the stages above.</footer>",
        ]
    )
    return document(f"{facts.title} · slmcompile report", body)


def _header(facts: ReportFacts) -> str:
    passed, sentence = verdict(facts)
    style = {True: " good", False: " bad", None: ""}[passed]
    sign = {True: "✓ ", False: "✗ ", None: ""}[passed]
    made_of = (
        f"{escape(facts.model_name)} ({escape(licence(facts.model_license))}) "
        f"{escape(fine_tuned(facts.recipe.get('train', {})))} on "
        f"{escape(facts.data_name)} ({escape(licence(facts.data_license))})."
    )
    figures = "".join(
        f"<div><dt>{escape(item.name)}</dt><dd>{escape(item.value)}"
        f"<small>{escape(item.note)}</small></dd></div>"
        for item in headline(facts)
    )
    over = overridden(facts.overrides)
    beside = f"<p><strong>{escape(over)}</strong></p>" if over else ""
    whose = trained_by(facts.trained_by)
    made_of += f" {escape(whose)}" if whose else ""
    lead = f'<p class="lead">{escape(facts.description)}</p>' if facts.description else ""
    return (
        f"<header><h1>{escape(facts.title)}</h1>{lead}<p>{made_of}</p>{beside}"
        f'<p class="verdict{style}">{sign}{escape(sentence)}</p>'
        f'<dl class="figures">{figures}</dl></header>'
    )


def _findings(facts: ReportFacts) -> str:
    sentences = all_findings(facts)
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<h3>Worth knowing</h3><ul class="findings">{items}</ul>'


def _sources(facts: ReportFacts) -> str:
    found = by_source(facts)
    if found is None:
        return ""
    heads = [Column("Artifact"), *(Column(each.title, numeric=True) for each in found.metrics)]
    lines: list[Line | Group] = []
    for source in found.sources:
        lines.append(Group(source.heading))
        lines += [Line([escape(name), *map(escape, cells)]) for name, cells in source.lines]
    return table(found.caption, heads, lines)


def _labels(facts: ReportFacts) -> str:
    found = by_label(facts, _MOST_LABELS)
    if found is None:
        return ""
    heads = [Column("Label"), Column("Rows", numeric=True)]
    heads += [Column(name, numeric=True) for name in found.artifacts]
    lines = [
        Line([escape(shorten(label, _LONGEST_LABEL)), count(support), *map(_scores, scores)])
        for label, support, scores in found.rows
    ]
    return table(found.caption, heads, lines)


def _scores(scores: LabelScores) -> str:
    beside = f"{number(scores.precision, 2)}, {number(scores.recall, 2)}"
    return f'{number(scores.f1, 2)}<small class="ci">{beside}</small>'


def _points(training: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    return [
        (float(point["step"]), float(point[key]))
        for point in training.get("curve", ())
        if point.get(key) is not None
    ]


def _training(training: Mapping[str, Any]) -> str:
    # Of another loss than cross entropy no figure compares with validation, which measures that.
    objective = training.get("objective")
    trained = "cross_entropy" if objective else "loss"
    losses = [
        Series("training loss", "train", _points(training, trained)),
        Series("validation loss", "validation", _points(training, "eval_loss"), dots=True),
    ]
    kept = kept_step(training)
    mark = None if kept is None else Mark(float(kept), f"kept: step {kept}")
    caption = "Cross entropy over optimizer steps" if objective else "Loss over optimizer steps"
    chart = line_chart(caption, losses, mark=mark)
    if not chart:
        return ""
    legend = (
        '<p class="legend"><span class="key train"></span>training'
        '<span class="key validation"></span>validation</p>'
    )
    small = "".join(
        figure(name, line_chart(name, [Series(key, "plain", _points(training, key))], height=125))
        for name, key in (
            *([(f"Minimised: {objective}", "loss")] if objective else []),
            *_of_metric(training),
            ("Learning rate", "learning_rate"),
            ("Gradient norm", "grad_norm"),
        )
    )
    notes = (early_stop_sentence(training), validation_sentence(training))
    checked = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
    loss = figure(caption, chart)
    return (
        f"{_training_figures(training)}{checked}"
        f'<div class="pair"><div>{loss}{legend}</div><div>{small}</div></div>'
    )


def _of_metric(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Caption and key of the metric that validations measured, where they did."""
    name = training.get("metric_for_best_model")
    return [(f"{METRICS[name].title} over the validation split", "eval_metric")] if name else []


def _training_figures(training: Mapping[str, Any]) -> str:
    known = (
        (count(training.get("steps")), " steps"),
        (count(training.get("tokens")), " tokens"),
        (number(training.get("tokens_per_second"), 0), " tokens/s"),
        (duration(training.get("wall_seconds")), ""),
        (size(training.get("peak_memory_bytes")), " peak memory"),
        (count(training.get("trainable_parameters")), " trainable parameters"),
    )
    parts = [value + unit for value, unit in known if value != MISSING]
    return f'<p class="soft">{escape(" · ".join(parts))}</p>' if parts else ""


def _predictions(facts: ReportFacts) -> str:
    chosen = cases(facts)
    if not chosen.total:
        return ""
    parts = [
        f"<p>{count(chosen.wrong_total)} of {count(chosen.total)} test rows measured are wrong in "
        "at least one fine-tuned or exported model. In a wrong answer, <ins>this</ins> is too much "
        "and <del>this</del> is missing against the reference.</p>"
    ]
    if chosen.wrong:
        more = f", the first {len(chosen.wrong)}" if len(chosen.wrong) < chosen.wrong_total else ""
        parts += [f"<h3>Wrong{more}</h3>", *map(_case, chosen.wrong)]
    if chosen.right:
        parts += ["<h3>Right, a sample</h3>", *map(_case, chosen.right)]
    return "".join(parts)


def _case(case: Case) -> str:
    answers = "".join(
        f"<dt>{'✓' if a.correct else '✗'} {escape(', '.join(a.artifacts))}</dt>"
        f'<dd class="text">{_answer(case.reference, a.text, a.correct)}</dd>'
        for a in case.answers
    )
    return (
        f'<div class="case"><p class="ask text">{escape(shorten(case.ask, _LONGEST_ANSWER))}</p>'
        f'<dl><dt>reference</dt><dd class="text">'
        f"{escape(shorten(case.reference, _LONGEST_ANSWER))}</dd>{answers}</dl></div>"
    )


def _answer(reference: str, text: str, correct: bool) -> str:
    if correct:
        return escape(shorten(text, _LONGEST_ANSWER))
    return difference(reference, text) or '<span class="soft">(empty)</span>'


def _recipe(facts: ReportFacts) -> str:
    if not facts.recipe:
        return ""
    text = yaml.safe_dump(dict(facts.recipe), sort_keys=False, allow_unicode=True, width=96)
    return (
        "<details open><summary>Effective configuration</summary>"
        f"<pre>{escape(text)}</pre></details>"
    )


def _earlier(facts: ReportFacts) -> dict[str, str]:
    """The recipe that training went on from, and the fingerprint of what that had trained."""
    name = facts.recipe.get("train", {}).get("continue_from", "")
    return {str(name): facts.continued_from} if facts.continued_from else {}


def _over(facts: ReportFacts) -> dict[str, str]:
    """The target over whose base was trained, and the fingerprint of that base."""
    name = facts.recipe.get("train", {}).get("over", "")
    return {str(name): facts.trained_over} if facts.trained_over else {}


def _provenance(facts: ReportFacts) -> str:
    tables = (
        ("SHA-256 of each artifact's manifest", "Artifact", "SHA-256", facts.hashes),
        ("What training went on from", "Recipe", "Fingerprint", _earlier(facts)),
        ("The base that was trained over", "Target", "Fingerprint", _over(facts)),
        ("Package versions that change the numbers", "Package", "Version", facts.packages),
    )
    return "".join(
        table(
            caption,
            [Column(first), Column(second)],
            [Line([escape(k), f"<code>{escape(v)}</code>"]) for k, v in sorted(values.items())],
            "hash",
        )
        for caption, first, second, values in tables
        if values
    )
