"""What ``score`` says of each of several sources is what its rows alone are worth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from slmcompile.inference.protocol import Generated
from slmcompile.recipe.schema import Gate
from slmcompile.report.facts import artifact_of, facts_from
from slmcompile.report.markdown import markdown
from slmcompile.report.page import page
from slmcompile.scoring.baselines import NEAREST
from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.gates import judge
from slmcompile.stages import answer
from slmcompile.stages.scores import read_comparisons, read_labels, read_metrics, read_predictions
from tests.answering import answered, scored
from tests.data_stage import Prepared, make_config, write_jsonl
from tests.tiny_tokenizer import make_tokenizer

LABELS = ("no", "perhaps", "yes")
ARTIFACTS = ("torch", "base")


class Model:
    """Answers the first prompts right less often; what it finds likely goes by the row's length."""

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, prompts: list[list[int]], *_: Any) -> list[Generated]:
        self.asked = len(prompts)
        return [Generated([n], cut_off=n % 4 == 0) for n in range(len(prompts))]

    def decode(self, ids: list[int]) -> str:
        return LABELS[ids[0] % 3]

    def log_likelihood(self, rows: list[Any]) -> list[tuple[float, int]]:
        return [(-0.1 * len(row.input_ids), len(row.input_ids) - 1) for row in rows]

    def decode_speed(self, *_: Any) -> float:
        return 1.0


@pytest.fixture
def done(tmp_path: Path) -> Prepared:
    project = tmp_path / "project"
    for name, count in (("plain", 40), ("polite", 20)):
        values = [
            {"text": f"{name} {label} {thing} box", "answer": label}
            for label in LABELS
            for thing in range(count)
        ]
        write_jsonl(project, values, f"{name}.jsonl")
    write_jsonl(project, [{"body": f"text {n} of a book"} for n in range(80)], "book.jsonl")
    sources = [
        {"name": name, "source": {"type": "file", "path": f"{name}.jsonl"}}
        for name in ("plain", "polite")
    ]
    book = {
        "name": "book",
        "source": {"type": "file", "path": "book.jsonl"},
        "template": {"type": "completion", "text": "{body}"},
        "replay": 0.2,
    }
    config = make_config(task="classification", label=None, source=None, sources=[*sources, book])
    return Prepared(tmp_path, config, make_tokenizer(tmp_path / "base"))


@pytest.fixture
def found(tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both artifacts and the baselines, answered and scored."""
    model = Model()
    monkeypatch.setattr(answer, "_load", lambda *_: (model, model.decode, 5))
    inputs = {"data": done.folder}
    answers = {name: answered(tmp_path, name, inputs, labelled=True) for name in ARTIFACTS}
    test = done.splits["test"]
    assert model.asked == sum(row.source != "book" for row in test) < len(test)
    answers["baselines"] = answered(tmp_path, "baselines", inputs, labelled=True)
    metrics = ["exact_match", "accuracy", "f1_macro", "perplexity"]
    _, out = scored(
        tmp_path, done.folder, answers, task="classification", labelled=True, metrics=metrics
    )
    return out


def lines(out: Path, artifact: str) -> list[dict[str, Any]]:
    every = map(json.loads, (out / "predictions.jsonl").read_text("utf-8").splitlines())
    return [line for line in every if line["artifact"] == artifact]


def macro_f1(rows: list[dict[str, Any]]) -> float:
    scores = []
    for label in {row["label"] for row in rows}:
        hits = sum(row["label"] == row["prediction"] == label for row in rows)
        named = sum(row["prediction"] == label for row in rows)
        wanted = sum(row["label"] == label for row in rows)
        scores.append(2 * hits / (named + wanted))
    return sum(scores) / len(scores)


def perplexity(rows: list[dict[str, Any]]) -> float:
    nats = sum(row["log_likelihood"] for row in rows)
    return math.exp(-nats / sum(row["tokens"] for row in rows))


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_metrics_of_a_source_are_those_of_its_rows_by_hand(
    done: Prepared, found: Path, artifact: str
) -> None:
    measured = read_metrics(found)[artifact]
    of_row = {row.id: row.source for row in done.splits["test"]}
    for name in ("plain", "polite"):
        own = [row for row in lines(found, artifact) if of_row[row["id"]] == name]
        right = sum(row["prediction"] == row["reference"] for row in own) / len(own)
        source = measured["sources"][name]
        assert source["rows"] == source["test_rows"] == len(own) > 0
        assert source["exact_match"] == source["accuracy"] == pytest.approx(right)
        assert source["exact_match_ci"] == pytest.approx(wilson(right, len(own)))
        assert source["f1_macro"] == pytest.approx(macro_f1(own))
        assert source["perplexity"] == pytest.approx(perplexity(own))
        cut = sum(row["cut_off"] for row in own) / len(own)
        assert source["cut_off"] == pytest.approx(cut)
    book = [row for row in lines(found, artifact) if of_row[row["id"]] == "book"]
    assert measured["sources"]["book"] == {
        "rows": len(book),
        "test_rows": len(book),
        "counted": False,
        "perplexity": pytest.approx(perplexity(book)),
    }


def test_what_is_against_forgetting_enters_no_figure_of_the_task(
    done: Prepared, found: Path
) -> None:
    measured = read_metrics(found)["torch"]
    task = [row for row in lines(found, "torch") if row["source"] != "book"]
    right = sum(row["prediction"] == row["reference"] for row in task) / len(task)
    assert measured["rows"] == measured["test_rows"] == len(task)
    assert measured["exact_match"] == pytest.approx(right)
    assert measured["perplexity"] == pytest.approx(perplexity(task))
    assert measured["labels"] == 3
    assert sum(each.support for each in read_labels(found)["torch"]) == len(task)
    assert all(row["source"] != "book" for row in read_predictions(found)["torch"])


def test_a_bar_of_a_source_is_held_against_its_rows_alone(found: Path) -> None:
    measured = read_metrics(found)
    own = measured["torch"]["sources"]["book"]["perplexity"]
    other = measured["torch"]["perplexity"]
    assert own != pytest.approx(other, rel=1e-6)
    passed = Gate(metric="perplexity", max=own, source="book")
    missed = Gate(metric="perplexity", max=own - 1e-6, source="book")
    verdicts = judge([passed, missed, Gate(metric="perplexity", max=other)], measured)
    assert [each.passed for each in verdicts] == [True, False, True]
    assert verdicts[0].bar.endswith(" (source book)")
    assert verdicts[0].value == own


def test_artifacts_are_compared_row_by_row_as_ever(found: Path) -> None:
    compared = {(each.one, each.other, each.metric) for each in read_comparisons(found)}
    assert ("torch", "base", "exact_match") in compared
    assert ("torch", "base", "perplexity") in compared
    assert ("torch", NEAREST, "exact_match") in compared
    assert set(read_metrics(found)[NEAREST]["sources"]) == {"plain", "polite"}


def test_both_reports_have_a_table_of_sources_in_the_recipe_s_order(
    done: Prepared, found: Path
) -> None:
    artifacts = [artifact_of(name, values, ()) for name, values in read_metrics(found).items()]
    facts = facts_from(
        {
            "name": "mix",
            "data_report": done.report,
            "artifacts": [
                {field: getattr(each, field) for field in each.__dataclass_fields__}
                for each in artifacts
            ],
        }
    )
    text, html = markdown(facts), page(facts)
    rows = len([row for row in done.splits["test"] if row.source == "plain"])
    places = [
        text.index(f"| plain: {rows} test rows |"),
        text.index("| polite: "),
        text.index(" test rows, against forgetting |"),
    ]
    assert places == sorted(places)
    assert "Each source" in html
    assert "book" in html
    assert "Sources, rows of each split used of those there are" in html
    assert "80 documents" not in text  # none was cut
    told = next(line for line in done.report["notes"] if line.startswith("book: "))
    assert "20.0% of the rows" in told
    assert "against forgetting" in told
