"""``answer`` asks a sample of every label, and ``score`` says what the answers are worth."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slmcompile.data.report_facts import read_data_facts
from slmcompile.inference.protocol import Generated
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.baselines import LINEAR, NEAREST
from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.gates import judge
from slmcompile.stages import answer
from slmcompile.stages.context import Result
from slmcompile.stages.scores import read_comparisons, read_labels, read_metrics, read_predictions
from tests.answering import answered, scored
from tests.data_stage import Prepared, make_config, write_jsonl
from tests.tiny_tokenizer import make_tokenizer

LABELS = ("no", "perhaps", "yes", "never")


class Model:
    """Answers each prompt with its place; of every fifth it does not find the end."""

    def generate(self, prompts: list[list[int]], *_: Any) -> list[Generated]:
        return [Generated([n], cut_off=n % 5 == 0) for n in range(len(prompts))]

    def decode(self, ids: list[int]) -> str:
        return LABELS[ids[0] % 4]

    def log_likelihood(self, rows: list[Any]) -> list[tuple[float, int]]:
        return [(-1.0 - n, 2) for n in range(len(rows))]

    def decode_speed(self, *_: Any) -> float:
        return 1.0


@pytest.fixture
def done(tmp_path: Path) -> Prepared:
    """A file that is sorted by class: 60 rows of each of four labels."""
    base = make_tokenizer(tmp_path / "base")
    values = [
        {"text": f"{label} {thing} box", "answer": label} for label in LABELS for thing in range(60)
    ]
    write_jsonl(tmp_path / "project", values)
    return Prepared(tmp_path, make_config(task="classification", label=None), base)


def measured(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch, *artifacts: str, **changes: Any
) -> tuple[Result, Path]:
    """Ten rows answered by artifacts, and scored."""
    monkeypatch.setattr(answer, "_load", lambda *_: (Model(), Model().decode, 5))
    inputs = {"data": done.folder}
    asked = {"limit": 10, "labelled": True}
    answers = {name: answered(tmp_path, name, inputs, **asked) for name in artifacts}
    told = {"task": "classification", "labelled": True, **changes}
    return scored(tmp_path, done.folder, answers, **told)


def test_a_limit_measures_every_label_of_a_sorted_file_and_says_so(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = len(done.splits["test"])
    result, out = measured(tmp_path, done, monkeypatch, "torch", "baselines")
    assert result.metrics is not None
    for artifact in ("torch", "baselines"):
        file = result.metrics[artifact]
        told = {key: file[key] for key in ("rows", "test_rows", "labels", "test_labels")}
        assert told == {"rows": 10, "test_rows": whole, "labels": 4, "test_labels": 4}
    answers = read_predictions(out)
    assert answers.keys() == {"torch", NEAREST, LINEAR}
    assert len({tuple(row["id"] for row in rows) for rows in answers.values()}) == 1, (
        "the same rows"
    )
    taken = Counter(row["label"] for row in answers["torch"])
    for label, rows in Counter(row.label for row in done.splits["test"]).items():
        assert abs(taken[label] - 10 * rows / whole) < 1
        assert taken[label] < rows


def test_answers_that_were_cut_off_are_counted_and_marked(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = measured(tmp_path, done, monkeypatch, "torch", metrics=["exact_match"])
    assert result.metrics is not None
    assert result.metrics["torch"]["cut_off"] == 0.2
    assert "perplexity" not in result.metrics["torch"], "it was not asked for"
    rows = read_predictions(out)["torch"]
    assert [n for n, row in enumerate(rows) if row["cut_off"]] == [0, 5]


def test_every_row_holds_what_it_adds_to_perplexity(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = measured(tmp_path, done, monkeypatch, "torch", metrics=["exact_match"])
    rows = read_predictions(out)["torch"]
    assert [(row["log_likelihood"], row["tokens"]) for row in rows] == [
        (-1.0 - n, 2) for n in range(10)
    ], "recorded whatever is asked for, so that nobody is asked again"


def test_another_metric_is_scored_from_the_same_answers(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "_load", lambda *_: (Model(), Model().decode, 5))
    inputs = {"data": done.folder}
    answers = {"torch": answered(tmp_path, "torch", inputs, limit=10, labelled=True)}
    monkeypatch.setattr(answer, "_load", pytest.fail)
    found = []
    for number, metrics in enumerate((["accuracy"], ["accuracy", "perplexity", "f1_macro"])):
        folder = tmp_path / str(number)
        _, out = scored(folder, done.folder, answers, metrics=metrics, task="classification")
        found.append(read_metrics(out)["torch"])
    assert "perplexity" not in found[0]
    # -(1 + … + 10) nats over 20 tokens
    assert found[1]["perplexity"] == pytest.approx(math.exp(55 / 20))
    assert found[0]["accuracy"] == found[1]["accuracy"]


def test_validity_under_a_schema_is_scored_and_held_by_a_gate(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jsonschema")
    monkeypatch.setattr(Model, "decode", lambda _, ids: ("1", "2", "no JSON", "3.5")[ids[0] % 4])
    (tmp_path / "schema.json").write_text('{"type": "integer"}', encoding="utf-8")
    result, out = measured(
        tmp_path, done, monkeypatch, "torch",
        metrics=["exact_match", "json_schema_valid"], json_schema="schema.json",
    )  # fmt: skip
    # Of the places 0 to 9 those that leave 0 or 1 when divided by four: 0, 1, 4, 5, 8, 9.
    found = read_metrics(out)
    assert found["torch"]["json_schema_valid"] == 0.6
    assert found["torch"]["json_schema_valid_ci"] == pytest.approx(wilson(0.6, 10))
    assert result.metrics is not None
    assert result.metrics["torch"]["json_schema_valid"] == 0.6, "what `dvc metrics diff` reads"
    told = [row["schema_valid"] for row in read_predictions(out)["torch"]]
    assert told == [n % 4 < 2 for n in range(10)]
    bars = [Gate(metric="json_schema_valid", min=bar) for bar in (0.6, 0.7)]
    assert [each.passed for each in judge(bars, found)] == [True, False]


def test_bits_per_byte_are_scored_and_held_by_a_gate(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "_load", lambda *_: (Model(), Model().decode, 5))
    inputs = {"data": done.folder}
    asked = {"limit": 10, "labelled": True}
    answers = {name: answered(tmp_path, name, inputs, **asked) for name in ("torch", "baselines")}
    metrics = ["exact_match", "bits_per_byte"]
    base = {"base": tmp_path / "base"}
    result, out = scored(tmp_path, done.folder, answers, base, metrics=metrics)
    told = read_predictions(out)["torch"]
    length = sum(len(row["reference"].encode()) for row in told)
    assert [row["reference_bytes"] for row in told] == [len(row["reference"]) for row in told]
    found = read_metrics(out)
    # -(1 + … + 10) nats
    assert found["torch"]["bits_per_byte"] == pytest.approx(55 / math.log(2) / length)
    assert result.metrics is not None
    assert result.metrics["torch"]["bits_per_byte"] == found["torch"]["bits_per_byte"]
    assert "bits_per_byte" not in found[NEAREST], "a baseline has no likelihoods"
    bars = [Gate(metric="bits_per_byte", max=bar) for bar in (1e3, 1e-3)]
    assert [each.passed for each in judge(bars, found)] == [True, False]


def test_each_label_is_scored_of_each_artifact_where_there_are_labels(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = measured(tmp_path, done, monkeypatch, "torch", "baselines")
    found, answers = read_labels(out), read_predictions(out)
    assert found.keys() == read_metrics(out).keys() == {"torch", NEAREST, LINEAR}
    rows = answers["torch"]
    for each in found["torch"]:
        wanted = [row for row in rows if row["label"] == each.label]
        right = [row for row in wanted if row["predicted_label"] == each.label]
        assert (each.support, each.recall) == (len(wanted), len(right) / len(wanted))
    assert {each.label for each in found["torch"]} == set(LABELS)
    assert all(each.f1 == 1.0 for each in found[LINEAR])
    _, out = measured(tmp_path / "no labels", done, monkeypatch, "torch", labelled=False)
    assert read_labels(out) == {}


def test_a_baseline_of_labels_is_measured_whole_where_a_label_is_the_answer(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = measured(tmp_path, done, monkeypatch, "torch", "baselines")
    found = read_metrics(out)
    assert found[LINEAR]["exact_match"] == found[LINEAR]["accuracy"] == 1.0
    for row in read_predictions(out)[LINEAR]:
        assert row["prediction"] == row["reference"]
    better = next(
        each.difference
        for each in read_comparisons(out)
        if (each.one, each.other, each.metric) == ("torch", LINEAR, "accuracy")
    )
    assert better.value == found["torch"]["accuracy"] - 1.0


def test_committed_metrics_hold_nothing_of_the_machine(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = measured(tmp_path, done, monkeypatch, "torch")
    assert result.metrics is not None
    assert result.metrics["torch"].keys() == {
        *("format_version", "rows", "test_rows", "labels", "test_labels"),
        *("cut_off", "exact_match", "accuracy", "perplexity"),
    }
    beside = read_metrics(out)["torch"]
    of_machine = {"tokens_per_second", "peak_memory_bytes", "size_bytes", "machine"}
    assert {*of_machine, "exact_match_ci"} < set(beside)
    assert beside["machine"].endswith(", 1 thread")
    assert (beside["turns"], beside["references"]) == (10, 4), "in the output folder alone"


def test_the_data_stage_writes_what_check_15_needs_of_every_limit(done: Prepared) -> None:
    facts = read_data_facts(done.folder)
    assert facts is not None
    rows = [rows for rows, _ in facts.facts.longest_tested]
    tokens = [tokens for _, tokens in facts.facts.longest_tested]
    assert rows[0] == 1
    assert rows == sorted(rows)
    assert tokens[-1] == max(
        len(row.input_ids) - len(row.prompt_ids) - 1 for row in done.splits["test"]
    )
