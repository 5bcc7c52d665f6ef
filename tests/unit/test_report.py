"""Reports say what was measured, also what is bad, and no text in them can do anything."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slmcompile.report.build import build
from slmcompile.report.cases import cases
from slmcompile.report.charts import Series, line_chart, tick_label, ticks
from slmcompile.report.facts import (
    Artifact,
    GateVerdict,
    Prediction,
    ReportFacts,
    facts_from,
    machines,
    measured_on,
)
from slmcompile.report.findings import (
    all_findings,
    baseline_sentences,
    overfitting_sentence,
    validation_sentence,
    verdict,
)
from slmcompile.report.headline import headline, smallest_export
from slmcompile.report.inert import block, code, prose
from slmcompile.report.overview import overview
from slmcompile.report.page import page
from slmcompile.report.prompts import framing
from slmcompile.report.shown_data import shown_data
from slmcompile.report.text import escape, visible
from slmcompile.report.word_diff import difference
from slmcompile.scoring.classification import LabelScores
from slmcompile.scoring.compared import Comparison
from slmcompile.scoring.paired import of_perplexity, of_right

HOSTILE = "</td><script>alert(1)</script>\u202e`|` [x](http://e.example) @team \x1b[31m <!-- -->"
PROMPT = {
    "format_version": "1.1", "text": "<|user|>\n{text}<|end|>\n", "columns": ["text"],
    "control_tokens": {"<|user|>": 1, "<|end|>": 2}, "prefix_ids": [],
}  # fmt: skip
VOID = {"meta", "br", "line", "circle", "rect", "polyline"}


def metrics(exact: float, accuracy: float) -> dict[str, Any]:
    """Metrics with intervals of ±0.05."""
    return {
        "exact_match": exact,
        "exact_match_ci": [exact - 0.05, exact + 0.05],
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.05, accuracy + 0.05],
        "f1_macro": accuracy - 0.01,
        "perplexity": 1.25,
    }


def predictions(wrong: set[int], answer: str = "off") -> list[Prediction]:
    """Ten rows; those in ``wrong`` are answered with ``answer``."""
    return [
        Prediction(
            id=i,
            prompt=f"<|user|>\nturn on lamp {i}<|end|>\n",
            reference=f"on {i}",
            prediction=answer if i in wrong else f"on {i}",
            correct=i not in wrong,
        )
        for i in range(10)
    ]


def against(one: str, other: str, metric: str, only_one: int, only_other: int) -> Comparison:
    """Two artifacts on 100 rows, of which so many only one of them has right."""
    alike = [True] * (100 - only_one - only_other)
    return Comparison(
        one,
        other,
        metric,
        of_right(
            [True] * only_one + [False] * only_other + alike,
            [False] * only_one + [True] * only_other + alike,
        ),
    )


def sample() -> ReportFacts:
    """A small complete set of facts."""
    return ReportFacts(
        name="tone",
        description="Says the tone of a phrase.",
        recipe={
            "data": {"task": "classification", "max_length": 96},
            "train": {"method": "lora"},
            "eval": {"max_new_tokens": 16},
            "target": {"cpu-int8": {"execution_provider": "cpu", "precision": "int8"}},
            "model": {"source": {"type": "hub", "repo_id": "acme/tiny"}},
        },
        gates=(
            GateVerdict("exact_match", "torch", "≥ 0.7", 0.8, True),
            GateVerdict("accuracy", "cpu-int8", "≥ 0.9", 0.85, False),
        ),
        model_name="Tiny",
        model_license="Apache-2.0",
        data_name="Tones",
        data_license="MIT",
        data_report={
            "counts": {"test": 10, "train": 80, "validation": 10},
            "dropped": {"duplicates": 3, "too_long": {"count": 2, "where": []}},
            "contradicting": {"count": 1, "listed": []},
            "notes": ["3 assistant turns are not trained"],
            "leaks": {"test_in_train": 0},
            "lengths": {
                "total": {
                    "mean": 20.5, "max": 40, "percentiles": {"p95": 35},
                    "histogram": {"edges": [0, 20, 40], "counts": [60, 40]},
                }
            },
            "labels": {"train": {"sad": 30, "glad": 50}, "test": {"sad": 4, "glad": 6}},
            "examples": [
                {"segments": [
                    {"text": "Phrase: hi", "trained": False}, {"text": " glad", "trained": True},
                ]}
            ],
        },
        prompt=PROMPT,
        training={
            "curve": [
                {"step": s, "loss": 2.0 / s, "learning_rate": 1e-3, "grad_norm": 1.0}
                | ({"eval_loss": 0.5 + abs(s - 4) * 0.1} if s % 2 == 0 else {})
                for s in range(1, 11)
            ],
            "saved_step": 4, "steps": 10, "tokens": 1000, "tokens_per_second": 250.0,
            "wall_seconds": 125.0,
        },
        artifacts=(
            Artifact("torch", "tuned", 1_000_000, metrics(0.8, 0.9), 50.0, 2_000_000, 10),
            Artifact(
                "cpu-int8", "export", 250_000, metrics(0.7, 0.85), 90.0, 1_000_000, 10,
                {"top1_agreement": 0.991, "max_abs_logit_diff": 0.25, "rows": 8}, "out/cpu-int8",
                agreement=0.9,
            ),
            Artifact(
                "base", "base", 1_000_000, metrics(0.1, 0.2) | {"perplexity": 9.0},
                50.0, 2_000_000, 10,
            ),
            Artifact("tf-idf", "baseline", metrics={"accuracy": 0.93, "accuracy_ci": [0.88, 0.97]}),
        ),
        predictions={
            "torch": predictions({1, 7}), "cpu-int8": predictions({1, 7, 9}),
            "base": predictions(set(range(10)), "hello"),
        },
        comparisons=(
            against("cpu-int8", "torch", "exact_match", 0, 1),
            against("torch", "base", "exact_match", 7, 0),
            against("torch", "tf-idf", "accuracy", 3, 5),
        ),
        labels={
            "torch": [
                LabelScores("glad", 6, 1.0, 0.5, 2 / 3), LabelScores("sad", 4, 0.5, 1.0, 2 / 3),
            ],
            "tf-idf": [
                LabelScores("glad", 6, 0.8, 0.9, 0.85), LabelScores("sad", 4, 0.0, 0.0, 0.0),
            ],
        },
        hashes={"torch": "ab" * 32, "cpu-int8": "cd" * 32},
        packages={"torch": "2.13.0"},
    )  # fmt: skip


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Counts a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Checks that the innermost open element ends."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keeps text."""
        self.text += data


def read(document: str) -> Reader:
    """A parsed page."""
    reader = Reader()
    reader.feed(document)
    assert reader.open == []
    return reader


def hostile(facts: ReportFacts) -> ReportFacts:
    """The facts with hostile text wherever a person or a model writes text."""
    value = dataclasses.asdict(facts)
    for key in ("name", "description", "model_name", "model_license", "data_name", "data_license"):
        value[key] = HOSTILE
    value["recipe"] = {"model": {"name": HOSTILE}, HOSTILE: HOSTILE}
    for listed in value["labels"].values():
        listed[0]["label"] = HOSTILE
    value["hashes"] = value["packages"] = {HOSTILE: HOSTILE}
    value["data_report"]["labels"] = {"train": {HOSTILE: 5}}
    value["data_report"]["counts"] = {HOSTILE: 5}
    value["data_report"]["notes"] = [HOSTILE]
    value["data_report"]["examples"] = [{"segments": [{"text": HOSTILE, "trained": True}]}]
    for gate in value["gates"]:
        gate |= {"artifact": HOSTILE, "bar": HOSTILE, "metric": HOSTILE}
    for rows in value["predictions"].values():
        for row in rows:
            row |= {"prompt": HOSTILE, "reference": HOSTILE, "prediction": HOSTILE + "x"}
    return facts_from(value)


def test_the_page_is_self_contained_and_accessible() -> None:
    """Nothing to fetch, no script; tables have captions, charts have words."""
    text = page(sample())
    reader = read(text)
    tags = [tag for tag, _ in reader.tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert not re.search(r"https?://|url\(|@import", text)
    assert tags.count("caption") == tags.count("table") >= 5
    charts = [attrs for tag, attrs in reader.tags if tag == "svg" and attrs["class"] == "chart"]
    assert len(charts) == 4
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_page_shows_what_was_measured() -> None:
    """Verdict, figures, findings, examples and provenance."""
    text = page(sample())
    words = read(text).text
    for expected in (
        "1 of 2 quality gates failed.", "✗ failed", "0.750 to 0.850", "90.0%", "kept: step 4",
        "0.930†", "250 tokens/s", "2 min 05 s", "duplicate rows dropped: 3",
        "rows dropped as too long: 2", "prompts with contradicting answers: 1",
        "3 assistant turns are not trained.",
        "ab" * 32, "2.13.0",
    ):  # fmt: skip
        assert expected in words, expected
    assert "<mark> glad</mark>" in text
    assert "also in another split" not in words


def test_no_text_of_a_person_or_a_model_becomes_markup() -> None:
    """Hostile text adds no element, keeps no control character, and is still legible."""
    plain, attacked = sample(), hostile(sample())
    known = {tag for tag, _ in read(page(plain)).tags}
    for path, document in build(attacked).items():
        text = document
        assert "\u202e" not in text, path
        assert "\x1b" not in text, path
        if text.startswith("---\n"):  # a card's YAML header is no Markdown
            header, text = text.removeprefix("---\n").split("\n---\n", 1)
            assert yaml.safe_load(header)["model-index"][0]["name"] == visible(HOSTILE), path
        reader = read(text) if path.endswith(".html") else rendered(text)
        assert not {"script", "a", "img"} & {tag for tag, _ in reader.tags}, path
        assert "alert(1)" in reader.text, path
        assert "⟨U+202E⟩" in reader.text, path
    reader = read(page(attacked))
    assert {tag for tag, _ in reader.tags} <= known


@given(st.text())
def test_escaped_text_reads_the_same(text: str) -> None:
    """What a reader sees is the text with hidden characters spelt out, and no tag."""
    reader = read(f"<p>{escape(text)}</p>")
    assert [tag for tag, _ in reader.tags] == ["p"]
    assert reader.text == visible(text)
    escape(text).encode("utf-8")


def test_a_difference_marks_words() -> None:
    """What is too much and what is missing; an unlike answer is shown whole."""
    assert difference("turn on lamp", "turn off lamp") == "turn <del>on</del><ins>off</ins> lamp"
    assert difference("on", "Sure, I can help!") == "<ins>Sure, I can help!</ins>"


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_difference_holds_both_texts(reference: str, prediction: str) -> None:
    """Without ``del`` it is the prediction, without ``ins`` the reference."""
    shown = difference(reference, prediction)
    kept = re.sub(r"<del>.*?</del>", "", shown, flags=re.DOTALL)
    assert html.unescape(re.sub(r"</?ins>", "", kept)) == visible(prediction)
    if shown == f"<ins>{escape(prediction)}</ins>":  # too different to be compared
        return
    old = re.sub(r"<ins>.*?</ins>", "", shown, flags=re.DOTALL)
    assert html.unescape(re.sub(r"</?del>", "", old)) == visible(reference)


ACTIVE = st.text(alphabet="`|*_[]()<>#@!\\~$&:/-+=.1 \nawGH", max_size=40)


def rendered(source: str) -> Reader:
    """Markdown (CommonMark and tables) as parsed HTML."""
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return read(parser.render(source))


@given(ACTIVE)
def test_prose_in_markdown_does_nothing(text: str) -> None:
    """It renders as one paragraph of exactly its own words."""
    reader = rendered(prose(text))
    assert {tag for tag, _ in reader.tags} <= {"p"}
    assert reader.text.strip() == " ".join(visible(text).split())


@given(ACTIVE)
def test_code_in_a_markdown_table_stays_in_its_cell(text: str) -> None:
    """The table keeps its shape and the cell its text."""
    reader = rendered(f"| a | b |\n| --- | --- |\n| {code(text)} | end |\n")
    assert [tag for tag, _ in reader.tags].count("td") == 2
    assert {tag for tag, _ in reader.tags} <= {
        "table", "thead", "tbody", "tr", "th", "td", "code",
    }  # fmt: skip
    shown = visible(text).replace("\n", "⏎")
    assert (
        reader.text.split("b", 1)[1].replace("\n", "").removesuffix("end").strip() == shown.strip()
    )


@pytest.mark.parametrize(
    "text",
    ["@team", "see #12", "GH-12", "http://a.example", "www.a.example", ":octocat:", "a:+1:b"],
)
def test_github_links_nothing(text: str) -> None:
    """What GitHub links without markup is broken by an empty comment."""
    assert "<!-- -->" in prose(text)
    assert text not in prose(text)


@given(st.text(alphabet="`~\na ", max_size=30))
def test_a_fence_cannot_be_closed_from_inside(text: str) -> None:
    """One code block, and nothing after it."""
    reader = rendered(block(text, "yaml") + "\nend")
    assert [tag for tag, _ in reader.tags] == ["pre", "code", "p"]


def test_the_verdict_counts_gates() -> None:
    """Failed, passed, and none."""
    facts = sample()
    assert verdict(facts) == (False, "1 of 2 quality gates failed.")
    assert verdict(dataclasses.replace(facts, gates=facts.gates[:1]))[0] is True
    assert verdict(dataclasses.replace(facts, gates=()))[0] is None


def test_a_baseline_that_beats_the_model_is_named() -> None:
    """With both figures and the rows on which the two differ; and silence where it is worse."""
    facts = dataclasses.replace(
        sample(), comparisons=[against("torch", "tf-idf", "accuracy", 0, 8)]
    )
    assert baseline_sentences(facts) == [
        "tf-idf beats the fine-tuned model at accuracy: 0.930 against 0.900 "
        "(8 rows only tf-idf has right, 0 only the fine-tuned model, p = .008)."
    ]
    worse = Artifact("tf-idf", "baseline", metrics={"accuracy": 0.5})
    better = [against("torch", "tf-idf", "accuracy", 40, 0)]
    assert (
        baseline_sentences(
            dataclasses.replace(facts, artifacts=(facts.artifacts[0], worse), comparisons=better)
        )
        == []
    )


@pytest.mark.parametrize("theirs", [0.93, 0.88])
def test_what_chance_explains_is_said_to_be_undecided_either_way(theirs: float) -> None:
    facts = sample()
    baseline = Artifact("tf-idf", "baseline", metrics={"accuracy": theirs})
    rows = (3, 5) if theirs > 0.9 else (5, 3)
    found = dataclasses.replace(
        facts,
        artifacts=(facts.artifacts[0], baseline),
        comparisons=[against("torch", "tf-idf", "accuracy", *rows)],
    )
    (sentence,) = baseline_sentences(found)
    assert sentence == (
        "tf-idf and the fine-tuned model cannot be told apart on this test set by accuracy: "
        f"{theirs:.3f} against 0.900 ({rows[1]} rows only tf-idf has right, {rows[0]} only the "
        "fine-tuned model, p = .73)."
    )
    for document in build(found).values():
        assert "overlap" not in document


def test_where_a_label_is_the_whole_answer_accuracy_is_not_said_once_more() -> None:
    facts = sample()
    both = {"exact_match": 0.95, "accuracy": 0.95}
    ours = dataclasses.replace(facts.artifacts[0], metrics=dict.fromkeys(both, 0.9))
    found = dataclasses.replace(
        facts,
        artifacts=(ours, Artifact("tf-idf", "baseline", metrics=both)),
        comparisons=[against("torch", "tf-idf", name, 0, 8) for name in both],
    )
    (sentence,) = baseline_sentences(found)
    assert "at exact match: 0.950 against 0.900" in sentence
    assert "accuracy" not in sentence


def with_exports(*exports: Artifact, gates: tuple[GateVerdict, ...] = (), **of: Any) -> ReportFacts:
    facts = sample()
    return dataclasses.replace(
        facts, artifacts=(facts.artifacts[0], *exports), gates=gates, predictions={}, **of
    )


def test_answers_that_were_cut_off_come_first() -> None:
    facts = sample()
    cut = [
        dataclasses.replace(a, metrics={**a.metrics, "cut_off": share}, rows=120)
        for a, share in zip(facts.artifacts, (11 / 120, 0.0, 1.0, 0.0), strict=True)
    ]
    recipe = {**facts.recipe, "eval": {"max_new_tokens": 16}}
    found = dataclasses.replace(facts, artifacts=cut, recipe=recipe)
    first, *rest = all_findings(found)
    assert first.startswith("torch: 11 of 120 answers ended at the limit of 16 tokens ")
    assert not [sentence for sentence in rest if "ended at" in sentence], "not of the base model"
    words = build(found)
    assert "Cut off" in words["report.html"]
    assert "Cut off" in words["report.md"]
    for artifact in cut:
        artifact.metrics["cut_off"] = 0.0  # type: ignore[index]
    assert not [sentence for sentence in all_findings(found) if "ended at" in sentence]
    assert "Cut off" not in build(found)["report.html"]


def test_an_export_that_lost_the_task_is_not_praised_and_its_largest_loss_is_named() -> None:
    """By its rows alone: no gate is there, and accuracy lost less than exact match."""
    small = Artifact("cpu-int4", "export", 100_000, {"exact_match": 0.5, "accuracy": 0.8})
    large = Artifact("cpu-int8", "export", 250_000, {"exact_match": 0.79, "accuracy": 0.9})
    found = [
        against("cpu-int4", "torch", "exact_match", 0, 30),
        against("cpu-int4", "torch", "accuracy", 0, 10),
        against("cpu-int8", "torch", "exact_match", 2, 3),
    ]
    facts = with_exports(small, large, comparisons=found)
    assert smallest_export(facts) is large
    (sentence,) = (each for each in all_findings(facts) if each.startswith("cpu-int4"))
    assert sentence == (
        "cpu-int4 loses 0.300 of exact match against the fine-tuned model (0.500 against 0.800; "
        "0 rows only cpu-int4 has right, 30 only the fine-tuned model, p < .001); it is worse at "
        "accuracy too. No gate is about it; `gates: [{metric: exact_match, artifact: cpu-int4, "
        "max_drop: 0.02}]` sets it a bar."
    )
    gate = GateVerdict("exact_match", "cpu-int4", "within 0.4 of torch's 0.8", 0.5, True)
    gated = with_exports(small, large, comparisons=found, gates=(gate,))
    assert not [each for each in all_findings(gated) if "No gate" in each]
    assert smallest_export(gated) is large, "a gate that passes does not undo a loss"
    alone = with_exports(small, comparisons=found)
    (tile,) = (item for item in headline(alone) if item.name == "Smallest export")
    assert tile.value == "none"
    card = build(facts)["cards/cpu-int8/README.md"]
    assert "loses" not in card, "of another export"
    assert "loses 0.300" in build(facts)["cards/cpu-int4/README.md"]


def test_a_sure_loss_that_is_tiny_is_no_finding() -> None:
    """Perplexity differs in every row by a rounding: sure, and nothing."""
    rows = [(-1.0 - n % 7, 3) for n in range(60)]
    found = of_perplexity([(total * 1.001, n) for total, n in rows], rows)
    assert found.significant
    export = Artifact("cpu-fp32", "export", 100_000, {"perplexity": 1.252})
    facts = with_exports(export, comparisons=[Comparison("cpu-fp32", "torch", "perplexity", found)])
    assert not [each for each in all_findings(facts) if each.startswith("cpu-fp32")]
    assert smallest_export(facts) is export


def test_rows_and_labels_measured_are_named_everywhere() -> None:
    facts = sample()
    on = {"rows": 120, "test_rows": 480, "labels": 12, "test_labels": 12}
    said = "120 of 480 test rows, 12 labels (each label once, then by frequency)"
    artifacts = [dataclasses.replace(each, **on) for each in facts.artifacts]
    for path, text in build(dataclasses.replace(facts, artifacts=artifacts)).items():
        assert f"on the same {said}" in text or f"on {said}" in text, path


def test_speeds_of_different_machines_are_said_not_to_compare() -> None:
    facts = sample()
    speeds = [each for each in facts.artifacts if each.tokens_per_second is not None]
    assert len(speeds) > 1
    one = {each.name: "EPYC, 2 threads" for each in speeds}
    other = {**one, speeds[0].name: "Xeon <8>, 4 threads"}
    for on, said in (
        (one, "Speed, one answer at a time, and memory on EPYC, 2 threads."),
        (other, f"Speeds and memory do not compare: {speeds[0].name} on Xeon <8>, 4 threads; "),
    ):
        artifacts = [
            dataclasses.replace(each, machine=on.get(each.name)) for each in facts.artifacts
        ]
        told = dataclasses.replace(facts, artifacts=artifacts)
        assert said in read(build(told)["report.html"]).text
        assert prose(machines(artifacts)) in build(told)["report.md"]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "4 of 480 test rows"),
        ({"labels": 4, "test_labels": 12},
         "4 of 480 test rows, 4 of 12 labels (the most frequent, one row each)"),
        ({"rows": 480, "labels": 12, "test_labels": 12}, "480 test rows, 12 labels"),
        ({"turns": 4}, "4 of 480 test rows"),
        ({"turns": 1600}, "4 of 480 test rows with 1,600 trained turns (answers are to the last of "
         "each row, perplexity is of all)"),
    ],
)  # fmt: skip
def test_how_a_sample_is_drawn_is_said_where_there_is_one(known: dict[str, int], said: str) -> None:
    assert measured_on(Artifact("torch", "tuned", **{"rows": 4, "test_rows": 480, **known})) == said


def test_one_answer_that_is_right_everywhere_is_said() -> None:
    facts = sample()
    same = [dataclasses.replace(each, references=1) for each in facts.artifacts]
    for path, text in build(dataclasses.replace(facts, artifacts=same)).items():
        assert "All 10 test rows measured ask for the same answer" in text, path
    for path, text in build(facts).items():
        assert "ask for the same answer" not in text, path


def test_what_nothing_is_measured_of_is_no_row_of_dashes() -> None:
    """A baseline where perplexity alone is asked for."""
    facts = sample()
    tuned = dataclasses.replace(facts.artifacts[0], metrics={"perplexity": 1.25})
    bare = dataclasses.replace(
        facts,
        artifacts=(tuned, Artifact("tf-idf", "baseline", rows=10)),
        predictions={},
        labels={},
    )
    for text in build(bare).values():
        assert "tf-idf" not in text


@pytest.mark.parametrize(("metric", "figure"), [
    ("chrf", "chrF: **61.000** (base model 9.000)"),
    ("perplexity", "Perplexity: **61.000** (base model 9.000)"),
])  # fmt: skip
def test_without_exact_match_another_figure_of_quality_comes_first(
    metric: str, figure: str
) -> None:
    kept = [
        dataclasses.replace(artifact, metrics={metric: value})
        for artifact, value in zip(sample().of_kind("tuned", "base"), (61.0, 9.0), strict=True)
    ]
    facts = dataclasses.replace(sample(), artifacts=tuple(kept), gates=(), comparisons=())
    assert figure in build(facts)["report.md"]


def test_a_gates_drop_is_told_with_its_interval() -> None:
    gate = GateVerdict(
        "exact_match", "cpu-int8", "within 0.05 of torch's 0.8", 0.7, False,
        "-0.100 (95 %: -0.170 to -0.040), p = .002",
    )  # fmt: skip
    files = build(dataclasses.replace(sample(), gates=(gate,)))
    for path in ("report.html", "report.md"):
        assert "-0.170 to -0.040), p = .002" in files[path].replace("\\", ""), path


def test_overfitting_is_said_and_only_then() -> None:
    """A validation loss that rises after its best point."""
    sentence = overfitting_sentence(sample().training)
    assert sentence is not None
    assert "from 0.500 at step 4 to 1.100 at step 10" in sentence
    assert "step 4 were kept" in sentence
    falling = {"curve": [{"step": s, "eval_loss": 1 / s} for s in range(1, 5)]}
    assert overfitting_sentence(falling) is None
    assert validation_sentence(falling) == (
        "Validation loss ends at its lowest: no sign of overfitting."
    )
    falling["curve"].append({"step": 5, "eval_loss": 0.254})
    assert validation_sentence(falling) == (
        "Validation loss ends within 2% of its lowest: no sign of overfitting."
    )


@pytest.mark.parametrize("points", [1, 2, 3])
def test_few_validation_points_say_nothing_of_overfitting(points: int) -> None:
    few = {"curve": [{"step": s, "eval_loss": 1 / s} for s in range(1, points + 1)]}
    said = validation_sentence(few)
    assert said is not None
    assert said.startswith(f"Only {points} validation point")
    assert "too few to tell" in said
    assert validation_sentence({"curve": [{"step": 1, "loss": 1.0}]}) is None


def test_wrong_rows_come_first_and_equal_answers_stand_together() -> None:
    """The fine-tuned model's mistakes, then an export's own; right rows show the base model."""
    chosen = cases(sample())
    assert (chosen.total, chosen.wrong_total) == (10, 3)
    assert [case.id for case in chosen.wrong] == [1, 7, 9]
    assert [(a.artifacts, a.correct) for a in chosen.wrong[0].answers] == [
        (["torch", "cpu-int8"], False)
    ]
    assert [(a.artifacts, a.correct) for a in chosen.wrong[2].answers] == [
        (["torch"], True),
        (["cpu-int8"], False),
    ]
    assert chosen.wrong[0].ask == "turn on lamp 1"
    assert {case.id for case in chosen.right} <= {0, 2, 3, 4, 5, 6, 8}
    assert any("base" in answer.artifacts for answer in chosen.right[0].answers)


@given(st.text(), st.text(), st.text(alphabet="a{}"), st.text(alphabet="a{}"))
def test_the_frame_is_the_templates_and_nothing_of_a_value_is_lost(
    value: str, other: str, before: str, after: str
) -> None:
    text = "{one} or {other}".join(part.replace("{", "{{").replace("}", "}}")
                                   for part in (before, after))  # fmt: skip
    frame = framing({"text": text})
    assert (frame.prefix, frame.suffix) == (before, after)
    assert frame.inner(f"{before}{value} or {other}{after}") == f"{value} or {other}"


@pytest.mark.parametrize(
    ("text", "prompt"), [(None, "aba"), ("{one}ab{one}", "aba"), ("ab{one}ba", "aba")]
)
def test_a_prompt_that_has_no_such_frame_is_shown_whole(text: str | None, prompt: str) -> None:
    assert framing({"text": text}).inner(prompt) == prompt


def test_equal_facts_give_equal_documents() -> None:
    """Also by way of JSON, and with nothing of the clock in them."""
    facts = sample()
    again = facts_from(json.loads(json.dumps(dataclasses.asdict(facts))))
    assert build(facts) == build(again)


def test_reports_need_nothing_but_a_name() -> None:
    """Every absent part is left out, not shown empty."""
    documents = build(ReportFacts(name="bare"))
    assert set(documents) == {"report.html", "report.md"}
    words = read(documents["report.html"]).text
    assert "No quality gates are set." in words
    assert not {"Training", "Data", "Predictions"} & set(words.split())


@pytest.mark.parametrize(
    ("train", "words", "export"),
    [
        ({"method": "lora", "lora": {"r": 16}}, "with LoRA (rank 16)", "merged and exported"),
        (
            {"method": "qlora", "lora": {"r": 8}, "quantization": {"bnb_4bit_quant_type": "nf4"}},
            "with QLoRA (rank 8, over a base in NF4)",
            "merged into the full-precision base and exported",
        ),
        (
            {
                "method": "lora",
                "lora": {
                    "r": 16,
                    "rank_pattern": {"q_proj": 4},
                    "use_dora": True,
                    "init_lora_weights": "pissa",
                    "loraplus_lr_ratio": 16.0,
                },
            },
            "with LoRA (rank 4–16, DoRA, begun as PiSSA, B at 16 times the rate)",
            "merged and exported",
        ),
        ({"method": "full"}, "in full (all weights)", "for classification, exported"),
        (
            {"method": "bottleneck", "bottleneck": {"style": "houlsby", "reduction_factor": 8}},
            "with bottleneck adapters (Houlsby, reduction factor 8)",
            "for classification, its adapters put into the graph in fp32, exported",
        ),
    ],
)
def test_report_and_card_name_the_method(train: dict[str, Any], words: str, export: str) -> None:
    facts = sample()
    files = build(dataclasses.replace(facts, recipe={**facts.recipe, "train": train}))
    # Markdown escapes what it could read as markup.
    plain = {name: text.replace("\\", "") for name, text in files.items()}
    for name in ("report.html", "report.md", CARD):
        assert f"fine-tuned {words} on" in plain[name], name
    assert export in plain[CARD]
    assert train["method"] in yaml.safe_load(files[CARD].split("---\n")[1])["tags"]


CARD = "cards/cpu-int8/README.md"


def test_the_card_has_a_hub_header_and_runs_the_real_prompt() -> None:
    """Header as YAML, this export's own figures, the prompt as trained."""
    card = build(sample())["cards/cpu-int8/README.md"]
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert header["base_model"] == "acme/tiny"
    assert header["base_model_relation"] == "quantized"
    assert header["pipeline_tag"] == "text-generation"
    assert header["library_name"] == "onnxruntime-genai"
    assert {"onnx", "lora", "classification", "int8", "cpu"} <= set(header["tags"])
    results = {m["type"]: m["value"] for m in header["model-index"][0]["results"][0]["metrics"]}
    assert results["exact_match"] == 0.7
    assert "slmcompile generate tone --target cpu-int8 'turn on lamp 0'" in card
    (snippet,) = re.findall(r"```python\n(.*?)\n```", card, flags=re.DOTALL)
    compile(snippet, "snippet", "exec")
    assert spelt(snippet) == sample().predictions["cpu-int8"][0].prompt
    assert "max_length=len(tokens) + 16)" in snippet
    assert "It answers <code>on 0</code>." in card
    assert "A value that spells a control token of the model (such as <code>" in card
    assert "cd" * 32 in card
    assert "30.0% of held-out answers are not exactly right (95 %: 25.0% to 35.0%)" in card
    assert "tf-idf and the fine-tuned model cannot be told apart" in card


def spelt(snippet: str) -> str:
    """The prompt that a card's program sends, by running the lines that write it."""
    lines = re.findall(r"^(?:values|prompt) = .+$", snippet, flags=re.MULTILINE)
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return str(names["prompt"])


def usage(prompt: dict[str, Any], *prompts: str) -> tuple[str, str]:
    """The first two sections of a card whose export answered these prompts, and its program."""
    rows = [Prediction(n, text, "on", "on", True) for n, text in enumerate(prompts)]
    facts = dataclasses.replace(
        sample(), prompt=PROMPT | prompt, predictions={"torch": rows, "cpu-int8": rows}
    )
    said = build(facts)[CARD].split("## How good")[0]
    (snippet,) = re.findall(r"```python\n(.*?)\n```", said, flags=re.DOTALL)
    compile(snippet, "snippet", "exec")
    return said, snippet


def test_the_card_asks_in_every_column() -> None:
    prompt = {"text": "Q: {q}\nC: {the c}\nA:", "columns": ["q", "the c"], "prefix_ids": [5]}
    said, snippet = usage(prompt, "Q: who\nC: it's a\nA:")
    assert """slmcompile generate tone --target cpu-int8 q=who 'the c=it'"'"'s a'""" in said
    assert spelt(snippet) == "Q: who\nC: it's a\nA:"
    assert "tokens = [5, *tokenizer.encode(prompt)]" in snippet


def test_the_card_claims_no_answer_to_what_nobody_asked() -> None:
    """Of conversations of several turns no prompt is one that a person types."""
    said, snippet = usage({}, "<|user|>\nhi<|end|>\nhello<|user|>\nlight on<|end|>\n")
    assert "slmcompile generate tone --target cpu-int8 hello" in said
    assert spelt(snippet) == "<|user|>\nhello<|end|>\n"
    assert "It answers" not in said


def test_a_prompt_of_a_chat_template_alone_stands_whole_in_the_card() -> None:
    said, snippet = usage({"text": None}, "<|user|>\nhi<|end|>\n")
    assert "slmcompile generate" not in said
    assert spelt(snippet) == "<|user|>\nhi<|end|>\n"
    assert "It answers <code>on</code>." in said


def test_the_cards_program_writes_no_bos_twice() -> None:
    controls = {"control_tokens": {"<s>": 1}, "prefix_ids": [1]}
    assert "[1, *tok" in usage({"text": "{text}\n", **controls}, "hi\n")[1]
    assert "tokens = tok" in usage({"text": "<s>{text}\n", **controls}, "<s>hi\n")[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("unknown", {"license": "unknown"}),
        ("Custom Licence 1", {"license": "other", "license_name": "custom-licence-1"}),
    ],
)
def test_licences_take_the_hubs_form(name: str, expected: dict[str, str]) -> None:
    """An SPDX identifier in lower case, or ``other`` with a name."""
    card = build(dataclasses.replace(sample(), model_license=name))["cards/cpu-int8/README.md"]
    header = yaml.safe_load(card.split("---\n")[1])
    assert {k: v for k, v in header.items() if k.startswith("license")} == expected


def test_the_overview_lists_every_recipe_with_its_figures() -> None:
    """Sorted by name; a link only where it is a relative path."""
    one = dataclasses.asdict(sample()) | {"report": "pipelines/tone/report/report.html"}
    other = one | {"name": "alpha", "report": "javascript:alert(1)"}
    page_text, markdown_text = overview([one, other])
    reader = read(page_text)
    links = [attrs["href"] for tag, attrs in reader.tags if tag == "a"]
    assert links == ["pipelines/tone/report/report.html"]
    assert reader.text.index("alpha") < reader.text.index("tone")
    row = next(line for line in markdown_text.splitlines() if "tone]" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:6] == ["✗ failed", "Exact match", "0.800", "0.100"]
    assert "javascript" not in page_text + markdown_text
    assert "No recipes yet." in overview([])[0]


@given(
    st.floats(-1e6, 1e6, allow_nan=False), st.floats(1e-6, 1e6, allow_nan=False), st.integers(1, 8)
)
def test_ticks_span_the_data_in_even_steps(low: float, width: float, about: int) -> None:
    """First tick at or below, last at or above, equal steps, few of them."""
    high = low + width
    found = ticks(low, high, about)
    step = found[1] - found[0]
    slack = step * 1e-6 + 1e-9
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert len(found) <= about + 3
    for a, b in itertools.pairwise(found):
        assert b - a == pytest.approx(step, rel=1e-3, abs=1e-9)


def test_tick_labels_of_one_axis_differ() -> None:
    """Also for learning rates."""
    for high in (1e-5, 2e-4, 1e-3, 0.25, 1.0, 3.2, 140.0, 25_000.0):
        axis = ticks(0.0, high)
        labels = [tick_label(value, axis[1] - axis[0]) for value in axis]
        assert len(set(labels)) == len(labels), labels


def test_a_diverged_point_does_not_break_a_chart() -> None:
    """NaN and infinity are left out; a long run is thinned."""
    points = [(float(s), 1.0 / s) for s in range(1, 5000)]
    chart = line_chart("Loss", [Series("a", "train", [*points, (5000.0, float("nan"))])])
    read(chart)
    assert "nan" not in chart
    assert len(re.findall(r"\d+\.\d,\d+\.\d", chart)) <= 400


def test_shown_data_read_counts_lists_and_numbers() -> None:
    """A count is a number, a list of cases or a mapping with a count."""
    for given_as in (2, ["a", "b"], {"count": 2, "where": []}, {"x": 1, "y": 1}):
        facts = shown_data({"contradicting": given_as})
        assert facts.notes["prompts with contradicting answers"] == 2
    assert list(shown_data(sample().data_report).labels) == ["glad", "sad"]


def test_the_report_imports_nothing_heavy() -> None:
    """Planning and reporting start fast."""
    script = "import slmcompile.report.build, slmcompile.report.overview, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "transformers", "onnx", "wandb", "pyarrow", "datasets", "pydantic"}
    assert not heavy & set(done.stdout.split())


# --- labels --------------------------------------------------------------------------------------


def test_each_label_stands_in_both_reports_with_its_scores() -> None:
    made = build(sample())
    text = read(made["report.html"]).text
    assert "F1 of each label (precision, recall), 2 labels" in text
    assert "LabelRowstorchtf-idf" in text
    assert "glad60.671.00, 0.500.850.80, 0.90" in text
    lines = made["report.md"].splitlines()
    assert "| Label | Rows | torch | tf-idf |" in lines
    assert "| <code>sad</code> | 4 | 0.67 (0.50, 1.00) | 0.00 (0.00, 0.00) |" in lines


def test_a_recipe_without_labels_or_with_one_has_no_table_of_them() -> None:
    one = {"torch": [LabelScores("glad", 10, 1.0, 1.0, 1.0)]}
    for labels in ({}, one):
        for text in build(dataclasses.replace(sample(), labels=labels)).values():
            assert "F1 of each label" not in text


def test_of_many_labels_the_most_frequent_are_shown_and_it_is_said() -> None:
    many = [LabelScores(f"label {n}", 200 - n, 0.5, 0.5, 0.5) for n in range(100)]
    made = build(dataclasses.replace(sample(), labels={"torch": many}))
    assert "100 labels, the 60 most frequent" in made["report.html"]
    assert "100 labels, the 30 most frequent" in made["report.md"]
    assert "<code>label 29</code>" in made["report.md"]
    assert "label 30<" not in made["report.md"]


def test_what_ran_in_another_arithmetic_is_said_in_report_and_card() -> None:
    facts = sample()
    recipe = {
        **facts.recipe,
        "target": {"cpu-int8": {"execution_provider": "cuda", "precision": "bf16"}},
    }
    artifacts = [
        dataclasses.replace(each, ran="generated") if each.name == "cpu-int8" else each
        for each in facts.artifacts
    ]
    made = build(dataclasses.replace(facts, recipe=recipe, artifacts=tuple(artifacts)))
    assert "Generated: cpu-int8: the CPU provider has no products in bfloat16" in made["report.md"]
    said = made[CARD].replace("\n", " ")
    assert "on these weights in fp32, not in bfloat16 on CUDA" in said
    assert "on this very graph" not in said


def test_a_card_for_a_browser_says_how_a_page_asks_and_that_none_was_measured() -> None:
    facts = sample()
    targets = {"cpu-int8": {"execution_provider": "web", "precision": "int8"}}
    recipe = {**facts.recipe, "target": targets}
    artifacts = [
        dataclasses.replace(each, ran="emulated") if each.name == "cpu-int8" else each
        for each in facts.artifacts
    ]
    card = build(dataclasses.replace(facts, recipe=recipe, artifacts=tuple(artifacts)))[CARD]
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "onnxruntime-web"
    assert header["base_model_relation"] == "quantized"
    assert "Emulated: its answers were measured by the CPU provider on this very graph" in card
    assert "the page that slmcompile package makes of it" in card
    (program,) = re.findall(r"```js\n(.*?)\n```", card, flags=re.DOTALL)
    (values,) = re.findall(r"model\.answer\((\{.*\}), \d+\)", program)
    prompt = facts.predictions["cpu-int8"][0].prompt
    assert all(value in prompt for value in json.loads(values).values())
    assert "is read as one here" not in card.replace("\n", " ")


@pytest.mark.parametrize(
    ("provider", "precision", "library", "relation", "said"),
    [
        ("hf", "bf16", "transformers", "finetune", "AutoModelForCausalLM.from_pretrained("),
        ("gguf", "q4_k_m", "gguf", "quantized", "ollama create tone --file "),
        ("gguf", "f16", "gguf", "finetune", "/model.gguf &"),
        ("openvino", "int4", "openvino", "quantized", "ov.LLMPipeline("),
    ],
)
def test_a_card_says_how_its_own_runtime_asks(
    provider: str, precision: str, library: str, relation: str, said: str
) -> None:
    facts = sample()
    targets = {"cpu-int8": {"execution_provider": provider, "precision": precision}}
    recipe = {**facts.recipe, "target": targets}
    card = build(dataclasses.replace(facts, recipe=recipe))[CARD]
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == library
    assert header["base_model_relation"] == relation
    assert {library, provider, precision} & set(header["tags"])
    assert "onnx" not in header["tags"]
    assert said in card
    assert "onnxruntime_genai" not in card
    if provider != "gguf":
        (snippet,) = re.findall(r"```python\n(.*?)\n```", card, flags=re.DOTALL)
        compile(snippet, "snippet", "exec")
        assert spelt(snippet) == facts.predictions["cpu-int8"][0].prompt
    else:
        asked = re.search(r"--data '(.*)'", card)
        assert asked
        assert json.loads(asked[1])["prompt"] == facts.predictions["cpu-int8"][0].prompt


def test_documents_say_whose_weights_an_export_holds() -> None:
    facts, base = sample(), "9f" * 32

    def told(over: str | None, **target: str) -> dict[str, str]:
        train = {"method": "lora", **({"over": over} if over else {})}
        targets = {"cpu-int8": {"execution_provider": "cpu", "precision": "int8", **target}}
        recipe = {**facts.recipe, "train": train, "target": targets}
        return build(dataclasses.replace(facts, recipe=recipe, trained_over=base if over else ""))

    def card(found: dict[str, str]) -> str:
        return found["cards/cpu-int8/README.md"]

    own, other = told("cpu-int8"), told("cpu-int4")
    assert "over the base of cpu-int8 on" in card(own)
    assert "its adapter kept in fp32 beside the base, exported" in card(own)
    assert "beside the weights of that base in int8, exported" in card(other)
    sentence = "cpu-int8 is made of the weights of cpu-int4's base"
    assert sentence in other["report.md"]
    assert sentence in read(other["report.html"]).text
    for found in (own, told(None)):
        assert sentence not in found["report.md"] + found["report.html"]
    assert "fp32 beside the base" in card(told(None, adapters="beside"))
    assert "merged and exported" in card(told(None))
    assert base in card(other)
    assert base in other["report.html"]
    assert base not in card(told(None)) + told(None)["report.html"]


def test_documents_say_what_rounding_cost_the_base_that_was_trained_over() -> None:
    facts = sample()
    recipe = {**facts.recipe, "train": {"method": "lora", "over": "cpu-int8"}}
    found = build(dataclasses.replace(facts, recipe=recipe, rounding_error=0.0914))
    sentence = "Rounding the base to int8 left its weights 9.1% off"
    assert sentence in found["report.md"]
    assert sentence in read(found["report.html"]).text
    assert sentence in found["cards/cpu-int8/README.md"].split("## Limits")[1]
    assert not [path for path, text in build(facts).items() if "Rounding" in text]


def test_the_size_of_a_model_over_a_quantised_base_says_what_it_is_of() -> None:
    sentence = "The size of torch is that of the base model, of the quantised base"
    found = build(dataclasses.replace(sample(), trained_over="9f" * 32))
    for path in ("report.md", "cards/cpu-int8/README.md"):
        assert sentence in found[path]
    assert sentence in read(found["report.html"]).text
    assert sentence not in "".join(build(sample()).values())


def test_documents_say_that_an_adapter_stands_beside_weights_it_was_not_trained_over() -> None:
    facts = sample()

    def told(method: str, **target: str) -> dict[str, str]:
        train = {"method": method, "quantization": {"bnb_4bit_quant_type": "nf4"}}
        targets = {"cpu-int8": {"execution_provider": "cpu", "precision": "int8", **target}}
        recipe = {**facts.recipe, "train": train, "target": targets}
        return build(dataclasses.replace(facts, recipe=recipe))

    sentence = "cpu-int8: the adapter was trained over the base in NF4, which is there in training"
    found = told("qlora", adapters="beside")
    assert sentence in found["report.md"]
    assert sentence in read(found["report.html"]).text
    assert sentence in found["cards/cpu-int8/README.md"].split("## Limits")[1]
    for other in (told("qlora"), told("lora", adapters="beside")):
        assert "was not trained over" not in "".join(other.values())


def test_the_headline_is_what_the_recipe_measures_first() -> None:
    facts = sample()
    assert facts.headline_metric == "exact_match"
    asked = {**facts.recipe, "eval": {"metrics": ["accuracy", "exact_match"]}}
    assert dataclasses.replace(facts, recipe=asked).headline_metric == "accuracy"
    asked = {**facts.recipe, "eval": {"metrics": ["rouge_l", "exact_match"]}}
    assert (
        dataclasses.replace(facts, recipe=asked).headline_metric == "exact_match"
    )  # as nobody measured it
