"""``evaluate`` measures a sample of every label, whole, and says what it measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.progress import Silent
from slmcompile.data.report_facts import read_data_facts
from slmcompile.inference.protocol import Generated
from slmcompile.scoring.baselines import LINEAR, NEAREST
from slmcompile.stages import evaluate
from slmcompile.stages.context import Context, Result
from slmcompile.stages.evaluations import read_metrics, read_predictions
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
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch, artifact: str, **changes: Any
) -> tuple[Result, Path]:
    monkeypatch.setattr(evaluate, "_load", lambda _: (Model(), Model().decode, 5))
    out = tmp_path / f"evaluate-{artifact}"
    out.mkdir()
    config = {
        "artifact": artifact, "metrics": ["exact_match", "accuracy", "perplexity"],
        "max_new_tokens": 4, "limit": 10, "seed": 0, "labelled": True, "batch_size": 1,
        "num_threads": 1, "task": "classification", "label": None, "label_steps": [], **changes,
    }  # fmt: skip
    context = Context(
        project=tmp_path, stage=f"x/evaluate-{artifact}", config=config,
        inputs={"data": done.folder}, manifests={}, out=out, scratch=tmp_path, fingerprint="",
        runtime={}, progress=Silent(),
    )  # fmt: skip
    return evaluate.run(context), out


def test_a_limit_measures_every_label_of_a_sorted_file_and_says_so(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = len(done.splits["test"])
    folders = {}
    for artifact in ("torch", "baselines"):
        result, out = measured(tmp_path, done, monkeypatch, artifact)
        folders[f"evaluate-{artifact}"] = out
        assert result.metrics is not None
        told = {key: result.metrics[key] for key in ("rows", "test_rows", "labels", "test_labels")}
        assert told == {"rows": 10, "test_rows": whole, "labels": 4, "test_labels": 4}
    answers = read_predictions(folders)
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
    assert result.metrics["cut_off"] == 0.2
    rows = read_predictions({"evaluate-torch": out})["torch"]
    assert [n for n, row in enumerate(rows) if row["cut_off"]] == [0, 5]
    assert "log_likelihood" not in rows[0], "perplexity was not asked for"


def test_every_row_holds_what_it_adds_to_perplexity(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = measured(tmp_path, done, monkeypatch, "torch")
    rows = read_predictions({"evaluate-torch": out})["torch"]
    assert [(row["log_likelihood"], row["tokens"]) for row in rows] == [
        (-1.0 - n, 2) for n in range(10)
    ]


def test_a_baseline_of_labels_is_measured_whole_where_a_label_is_the_answer(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = measured(tmp_path, done, monkeypatch, "baselines")
    found = read_metrics({"evaluate-baselines": out})
    assert found[LINEAR]["exact_match"] == found[LINEAR]["accuracy"] == 1.0
    for row in read_predictions({"evaluate-baselines": out})[LINEAR]:
        assert row["prediction"] == row["reference"]


def test_committed_metrics_hold_nothing_of_the_machine(
    tmp_path: Path, done: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = measured(tmp_path, done, monkeypatch, "torch")
    assert result.metrics is not None
    assert result.metrics.keys() == {
        *("format_version", "rows", "test_rows", "labels", "test_labels"),
        *("cut_off", "exact_match", "accuracy", "perplexity"),
    }
    beside = read_metrics({"evaluate-torch": out})["torch"]
    assert {"tokens_per_second", "peak_memory_bytes", "size_bytes", "exact_match_ci"} < set(beside)
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
