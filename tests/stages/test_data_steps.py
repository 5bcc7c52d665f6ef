"""What ``data.steps`` does with rows before templates see them, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from slmcompile.console.errors import BadDataError
from slmcompile.console.progress import Console
from slmcompile.data.steps import Done
from slmcompile.data_steps import DATA_STEPS
from tests.data_stage import Prepared, make_config, write_jsonl
from tests.projects import make_project
from tests.tiny_tokenizer import make_tokenizer
from tests.toys import SHOUT
from tests.unit.checks.data_contexts import planned, verdict


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base")


def rows() -> list[dict[str, Any]]:
    languages = ("en", "de", None, 3)
    return [
        {
            "text": f"{how} {number}",
            "answer": {"intent": how},
            "lang": languages[number % 4],
        }
        for how in ("on", "off")
        for number in range(40)
    ]


def prepared(tmp_path: Path, base: Path, *steps: dict[str, Any], **changes: Any) -> Prepared:
    write_jsonl(tmp_path / "project", rows())
    return Prepared(tmp_path, make_config(steps=list(steps), **changes), base)


def languages_of(done: Prepared) -> set[Any]:
    known = {row["text"]: row["lang"] for row in rows()}
    return {known[row.prompt.removesuffix(" = ")] for row in done.rows}


def test_only_rows_with_the_values_are_kept_and_counted(tmp_path: Path, base: Path) -> None:
    done = prepared(
        tmp_path, base, {"type": "keep", "column": "lang", "values": ["de", "3", "null", "fr"]}
    )
    assert languages_of(done) == {"de", 3, None}
    assert len(done.rows) == done.report["read"] == 60
    told = "keep lang: 60 of 80 rows are left; counted de: 20, 3: 20, null: 20, fr: 0"
    assert "keep lang: no row has fr" in done.report["warnings"]
    assert told in done.report["notes"]
    assert told in done.progress.lines
    assert "80 rows read" in done.progress.lines
    assert done.report["steps"] == [
        {
            "words": "keep lang",
            "read": 80,
            "left": 60,
            "facts": {"de": 20, "3": 20, "null": 20, "fr": 0},
        }
    ]


def test_steps_follow_one_another_and_take_columns_as_templates_name_them(
    tmp_path: Path, base: Path
) -> None:
    done = prepared(
        tmp_path,
        base,
        {"type": "drop", "column": "language", "values": ["null"]},
        {"type": "drop", "column": "language", "values": ["3"]},
        columns={"language": "lang"},
    )
    assert languages_of(done) == {"en", "de"}
    assert [(step["read"], step["left"]) for step in done.report["steps"]] == [(80, 60), (60, 40)]


def test_what_is_no_number_can_be_left_out(tmp_path: Path, base: Path) -> None:
    scores = [float("nan"), 0.5, None, 2.0]
    values = [{**row, "score": scores[n % 4]} for n, row in enumerate(rows())]
    for row in values:
        row["lang"] = str(row["lang"])
    (tmp_path / "project").mkdir()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(values), tmp_path / "project" / "rows.parquet"
    )
    step = {"type": "drop", "column": "score", "values": ["nan", "null"]}
    config = make_config(steps=[step], source={"type": "file", "path": "rows.parquet"})
    assert Prepared(tmp_path, config, base).report["steps"][0]["facts"] == {"nan": 20, "null": 20}


def test_a_key_that_some_rows_lack_is_null_in_them(tmp_path: Path, base: Path) -> None:
    values = [{key: row[key] for key in row if row[key] is not None} for row in rows()]
    write_jsonl(tmp_path / "project", values)
    step = {"type": "drop", "column": "lang", "values": ["null"]}
    done = Prepared(tmp_path, make_config(steps=[step]), base)
    assert languages_of(done) == {"en", "de", 3}


def test_what_a_step_says_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    line = Done("drop \x1b[31mred", 3, 2, {"\u202ezz\n  tiny/gate: passed": 1}).line()
    Console("r/data").say(line)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert not {"\x1b", "\u202e"} & set(said)


def test_without_steps_the_report_says_nothing_of_any(tmp_path: Path, base: Path) -> None:
    assert "steps" not in prepared(tmp_path, base).report
    assert "steps" not in make_config().model_dump()


@pytest.mark.parametrize(
    ("step", "said", "mend"),
    [
        (
            {"type": "keep", "column": "lung", "values": ["de"]},
            "data.steps.0: rows.jsonl:1: no column 'lung'",
            "did you mean 'lang'? columns here: text, answer, lang; data.columns renames",
        ),
        (
            {"type": "keep", "column": "lang", "values": ["fr"]},
            "data.steps.0: keep lang leaves no row",
            "values there: en, de, null, 3",
        ),
        (
            {"type": "keep", "column": "lang", "values": ["DE"]},
            "data.steps.0: keep lang leaves no row",
            "did you mean 'de'? values there: en, de, null, 3",
        ),
    ],
)
def test_what_a_step_cannot_do_is_said_with_its_key(
    tmp_path: Path, base: Path, step: dict[str, Any], said: str, mend: str
) -> None:
    with pytest.raises(BadDataError) as caught:
        prepared(tmp_path, base, step)
    assert (caught.value.what, caught.value.mend) == (said, mend)


def test_a_plan_finds_what_the_first_rows_tell(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    step = "data.steps=[{{type: keep, column: {}, values: [{}]}}]"
    wrong = verdict(6, planned(root, step.format("labl", "on")))
    assert wrong.evidence == "data/tiny/commands.jsonl:1: no column 'labl'"
    assert wrong.where == f"override '{step.format('labl', 'on')}': data.steps.0"
    assert verdict(6, planned(root, step.format("label", "none"))).outcome == "refuted"
    assert verdict(6, planned(root, step.format("label", "on"))).outcome == "needs_probe"


def test_a_step_over_all_rows_leaves_a_plan_nothing_to_look_at(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    shout = "data.steps=[{{type: shout, column: {}}}]"
    with DATA_STEPS.joined_by(SHOUT):
        assert verdict(6, planned(root, shout.format("text"))).outcome == "needs_probe"
        wrong = verdict(6, planned(root, shout.format("texd")))
        assert wrong.evidence == "data/tiny/commands.jsonl:1: no column 'texd'"
    too_many = "train.eval_steps=100000"
    with DATA_STEPS.joined_by(replace(SHOUT, row_by_row=False)):
        unread = planned(make_project(tmp_path.resolve() / "other", data=("tiny",)),
                         shout.format("texd"), too_many)  # fmt: skip
        assert verdict(6, unread).outcome == "needs_probe"
        assert verdict(20, unread).outcome != "refuted", "how many rows it leaves is not known"
    keep = "data.steps=[{type: keep, column: label, values: [on]}]"
    assert verdict(20, planned(root, keep, too_many)).outcome == "refuted"


def test_the_first_part_of_a_long_file_may_hold_none_of_the_rows(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    lines = [json.dumps({"text": f"row {n}", "label": "a"}) for n in range(5000)]
    lines += [json.dumps({"text": f"row {n}", "label": "b"}) for n in range(5000)]
    (root / "data/rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    step = "data.steps=[{type: keep, column: label, values: [b]}]"
    found = verdict(6, planned(root, "data.source.path=data/rows.jsonl", step))
    assert found.outcome == "needs_probe"
