"""Labels in several writings, through the data, check, answer and score stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slmcompile.data.labels import label_of
from slmcompile.data.report_facts import read_data_facts
from slmcompile.inference.protocol import Generated
from slmcompile.stages import answer
from tests.answering import answered, scored
from tests.data_stage import CHAT, TEXT, Prepared, make_config, write_jsonl
from tests.tiny_tokenizer import CHATML, REASONING, make_tokenizer

MIXED: list[Any] = [1, "1", 1.0, True, "true", 0, "0.0", False]
SPACED = [" yes", "yes ", "yes\n", "no", " no", "no", "maybe", "maybe"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base")


def prepared(
    tmp_path: Path, base: Path, labels: list[Any], out: str = "out", **config: Any
) -> Prepared:
    values = [{"text": f"is box {n} open", "answer": labels[n % len(labels)]} for n in range(48)]
    write_jsonl(tmp_path / "project", values)
    config = {"task": "classification", "label": None, **config}
    return Prepared(tmp_path, make_config(**config), base, out)


def found(done: Prepared) -> list[tuple[list[tuple[str, int]], bool]]:
    facts = read_data_facts(done.folder)
    assert facts is not None
    return [
        ([(each.text, each.rows) for each in one.writings], one.sure)
        for one in facts.facts.several_writings
    ]


def test_numbers_and_truth_values_that_are_one_label_are_reported(
    tmp_path: Path, base: Path
) -> None:
    done = prepared(tmp_path, base, MIXED)
    assert found(done) == [
        ([('"1"', 12), ('"true"', 12), ('"1.0"', 6)], True),
        ([('"0"', 6), ('"0.0"', 6), ('"false"', 6)], True),
    ]
    said = [line for line in done.progress.lines if "several ways" in line]
    assert said[0] == (
        'warning: one label is written in several ways: "1" (12 rows, first rows.jsonl:1),'
        ' "true" (12 rows, first rows.jsonl:4), "1.0" (6 rows, first rows.jsonl:3)'
    )


@pytest.mark.parametrize("template", [TEXT, CHAT], ids=["text", "chat"])
@pytest.mark.parametrize(
    ("labels", "steps", "names"),
    [(MIXED, ["number"], {"0", "1"}), (SPACED, ["space"], {"yes", "no", "maybe"})],
    ids=["numbers", "white space"],
)
def test_the_declared_writing_is_what_is_trained_counted_and_split(
    tmp_path: Path,
    base: Path,
    template: dict[str, str],
    labels: list[Any],
    steps: list[str],
    names: set[str],
) -> None:
    config = {"template": template, "split": {"strategy": "stratified", "by": "answer"}}
    done = prepared(tmp_path, base, labels, normalize_labels=steps, **config)
    assert found(done) == []
    assert {row.label for row in done.rows} == {row.completion for row in done.rows} == names
    for split in done.splits.values():
        assert {row.label for row in split} == names
    strata = done.report["facts"]["strata"]
    assert (strata["name"] in names, strata["prompts"] >= 12) == (True, True)


def test_a_label_within_json_is_written_once_and_the_rest_is_left(
    tmp_path: Path, base: Path
) -> None:
    config = {"label": "open", "task": "extraction"}
    config["template"] = TEXT | {"completion": '{{"open": {answer}, "of": " Box"}}'}
    labels = [1, 1.0, '"1"', 0, False, 2]
    done = prepared(tmp_path, base, labels, **config)
    assert [([text for text, _ in one], sure) for one, sure in found(done)] == [
        (['"1"', "1", "1.0"], True),
        (["0", "false"], True),
    ]
    mended = prepared(tmp_path, base, labels, "mended", normalize_labels=["number"], **config)
    assert found(mended) == []
    assert {row.completion for row in mended.rows} == {
        f'{{"open": {n}, "of": " Box"}}' for n in range(3)
    }
    assert all(row.label == label_of(row.completion, "open") for row in mended.rows)


@pytest.mark.parametrize("template", [CHATML, REASONING], ids=["whole", "an example a turn"])
def test_conversations_are_normalised_in_every_answer_that_is_trained(
    tmp_path: Path, template: str
) -> None:
    """Whether or not the template makes an example of each turn; an answer of the context stays."""
    base = make_tokenizer(tmp_path / "base", chat_template=template)
    talks = [
        {
            "messages": [
                {"role": "user", "content": f"box {n}?"},
                {"role": "assistant", "content": "NOT TRAINED", "weight": 0},
                {"role": "user", "content": "and now?"},
                {"role": "assistant", "content": ["YES", "yes", "No"][n % 3]},
                {"role": "user", "content": "surely?"},
                {"role": "assistant", "content": ["YES", "yes", "no"][n % 3]},
            ]
        }
        for n in range(30)
    ]
    write_jsonl(tmp_path / "project", talks)
    config = {"template": {"type": "messages"}, "label": None, "task": "classification"}
    done = Prepared(tmp_path, make_config(normalize_labels=["case"], **config), base)
    assert len(done.rows) == (30 if template == CHATML else 60)
    assert {row.label for row in done.rows} == {"yes", "no"}
    for row in done.rows:
        assert not row.prompt.partition("and now?")[2].count("YES" if row.label == "yes" else "No")
        assert "NOT TRAINED" in row.prompt


def test_labels_from_pandas_are_one_label_in_csv_and_parquet(tmp_path: Path, base: Path) -> None:
    """A column of whole numbers with a gap becomes floats: the file with gaps differs."""
    project = tmp_path / "project"
    project.mkdir()
    lines = [f"box {n},{n % 2}" for n in range(30)]
    (project / "train.csv").write_text("\n".join(["text,answer", *lines]), encoding="utf-8")
    rows = [{"text": f"case {n}", "answer": float(n % 2)} for n in range(10)]
    pq.write_table(pa.Table.from_pylist(rows), project / "test.parquet")
    source = {"type": "file", "files": {"train": "train.csv", "test": "test.parquet"}}
    config = {"task": "classification", "label": None, "source": source}
    assert found(Prepared(tmp_path, make_config(**config), base)) == [
        ([('"0"', 15), ('"0.0"', 5)], True),
        ([('"1"', 15), ('"1.0"', 5)], True),
    ]
    mended = Prepared(tmp_path, make_config(**config, normalize_labels=["number"]), base, "mended")
    assert found(mended) == []
    assert {row.label for row in mended.rows} == {"0", "1"}


def test_labels_that_are_all_floats_are_pointed_out(tmp_path: Path, base: Path) -> None:
    done = prepared(tmp_path, base, [0.0, 1.0])
    assert found(done) == []
    assert any("labels are written 0.0, 1.0, as pandas" in line for line in done.progress.lines)


def test_free_text_is_no_label(tmp_path: Path, base: Path) -> None:
    assert found(prepared(tmp_path, base, SPACED, task="generation")) == []


class _Answers:
    """A model that answers each prompt as it is told to."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def generate(self, prompts: list[list[int]], *_: Any) -> list[Generated]:
        return [Generated([n], cut_off=False) for n in range(len(prompts))]

    def decode(self, ids: list[int]) -> str:
        return self.texts[ids[0]]

    def log_likelihood(self, rows: list[Any]) -> list[tuple[float, int]]:
        return [(-1.0, 1) for _ in rows]

    def decode_speed(self, *_: Any) -> float:
        return 1.0


@pytest.mark.parametrize(("steps", "right"), [([], 0.0), (["case", "space"], 1.0)])
def test_answers_are_compared_in_the_declared_writing(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str], right: float
) -> None:
    """A base model that was never trained on the declared writing answers in its own."""
    done = prepared(tmp_path, base, ["yes", "no"], normalize_labels=["case", "space"])
    model = _Answers([row.completion.upper() for row in done.splits["test"]])
    monkeypatch.setattr(answer, "_load", lambda *_: (model, model.decode, 1))
    asked = {"torch": answered(tmp_path, "torch", {"data": done.folder}, labelled=True)}
    told = {"task": "classification", "labelled": True, "label_steps": steps}
    _, out = scored(tmp_path, done.folder, asked, metrics=["exact_match", "accuracy"], **told)
    measured = json.loads((out / "metrics.json").read_text())["artifacts"]["torch"]
    assert (measured["exact_match"], measured["accuracy"]) == (right, right)
