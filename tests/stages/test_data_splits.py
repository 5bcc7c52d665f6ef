"""Splits, duplicates, lengths and the report of the data stage."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from slmcompile.console.errors import BadDataError
from slmcompile.data.normalise import normalised
from slmcompile.data.store import IGNORED
from tests.data_stage import DEVICES, Prepared, make_config, rows, write_jsonl
from tests.tiny_tokenizer import make_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_jsonl(folder, rows())
    return folder


def test_splits_are_disjoint_complete_and_leak_no_prompt(
    tmp_path: Path, project: Path, base: Path
) -> None:
    twins = [
        {"text": f"  Turn ON the {device}!", "answer": {"intent": "on", "name": device, "n": 1}}
        for device in DEVICES
    ]
    write_jsonl(project, rows() + twins)
    done = Prepared(tmp_path, make_config(), base)
    ids = [row.id for row in done.rows]
    assert sorted(ids) == list(range(len(rows()) + len(twins)))
    prompts = [{normalised(row.prompt) for row in split} for split in done.splits.values()]
    assert len(set.union(*prompts)) == sum(map(len, prompts))
    assert set(done.report["leaks"].values()) == {0}


def test_leaks_in_given_splits_are_counted_and_said(tmp_path: Path, base: Path) -> None:
    project = tmp_path / "project"
    write_jsonl(project, rows()[:60], "a.jsonl")
    write_jsonl(
        project, [rows()[3] | {"text": "TURN on the kitchen  3."}, *rows()[60:80]], "b.jsonl"
    )
    write_jsonl(project, rows()[79:100], "c.jsonl")
    files = {"train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}
    done = Prepared(tmp_path, make_config(source={"type": "file", "files": files}), base)
    assert done.report["leaks"] == {
        "validation_in_train": 1,
        "test_in_train": 0,
        "test_in_validation": 1,
    }
    assert done.info["rows"] == {"train": 60, "validation": 21, "test": 21}
    assert "warning: 1 rows of validation have a prompt that is in train" in done.progress.lines


def test_a_split_that_is_not_given_is_taken_from_train(tmp_path: Path, base: Path) -> None:
    project = tmp_path / "project"
    write_jsonl(project, rows()[:100], "a.jsonl")
    write_jsonl(project, rows()[100:], "c.jsonl")
    files = {"train": "a.jsonl", "test": "c.jsonl"}
    done = Prepared(tmp_path, make_config(source={"type": "file", "files": files}), base)
    assert done.info["rows"] == {"train": 90, "validation": 10, "test": 20}


def test_group_split_keeps_groups_whole_and_every_label_everywhere(
    tmp_path: Path, base: Path
) -> None:
    values = [
        {"text": f"{intent} {group} {n}", "answer": {"intent": intent}, "group": f"{intent}{group}"}
        for intent in ("on", "off", "set")
        for group in range(5)
        for n in range(group + 2)
    ]
    write_jsonl(tmp_path / "project", values)
    done = Prepared(tmp_path, make_config(split={"strategy": "group", "by": "group"}), base)
    groups = [{values[row.id]["group"] for row in split} for split in done.splits.values()]
    assert sum(map(len, groups)) == 15
    assert len(set.union(*groups)) == 15
    for split in done.splits.values():
        assert {row.label for row in split} == {"on", "off", "set"}


def test_duplicates_are_dropped_and_contradictions_reported(
    tmp_path: Path, project: Path, base: Path
) -> None:
    write_jsonl(project, [*rows(), rows()[0], rows()[0], rows()[1] | {"answer": {"intent": "no"}}])
    done = Prepared(tmp_path, make_config(), base)
    assert len(done.rows) == len(rows()) + 1
    assert done.report["dropped"]["duplicates"] == 2
    assert done.report["contradicting"]["count"] == 1
    assert done.report["contradicting"]["listed"][0]["where"] == [
        "rows.jsonl:2",
        f"rows.jsonl:{len(rows()) + 3}",
    ]
    assert "warning: 1 prompts are answered in more than one way" in done.progress.lines


def test_a_row_too_long_is_named_or_dropped_and_counted(
    tmp_path: Path, project: Path, base: Path
) -> None:
    long_row = {"text": "what is the weather like " * 60, "answer": {"intent": "on"}}
    write_jsonl(project, [*rows(), long_row])
    with pytest.raises(BadDataError, match=r"rows\.jsonl:121: \d+ tokens, .* 128") as caught:
        Prepared(tmp_path, make_config(max_length=128), base, "a")
    assert "data.too_long=drop" in caught.value.mend
    write_jsonl(project, [*rows(), long_row, {**long_row, "text": f"longer {long_row['text']}"}])
    several = r"rows\.jsonl:122: (\d+) tokens, .* 128; 2 rows are longer, this is the longest"
    with pytest.raises(BadDataError, match=several) as caught:
        Prepared(tmp_path, make_config(max_length=128), base, "c")
    assert caught.value.mend.startswith("set data.max_length=")
    write_jsonl(project, [*rows(), long_row])
    done = Prepared(tmp_path, make_config(max_length=128, too_long="drop"), base, "b")
    assert len(done.rows) == len(rows())
    assert done.report["dropped"]["too_long"] == {"count": 1, "where": ["rows.jsonl:121"]}


@pytest.mark.parametrize(
    ("window", "too_long", "mend"),
    [
        (None, "drop", r"set data\.max_length=(\d+), or shorten the rows"),
        (4096, "drop", r"set data\.max_length=(\d+), or shorten the rows"),
        (4096, "error", r"set data\.max_length=(\d+), or data\.too_long=drop"),
        (
            256,
            "error",
            r"set data\.max_length=256 and data\.too_long=drop, or shorten .* is 256 .*",
        ),
        (256, "drop", r"set data\.max_length=256 and data\.too_long=drop, or shorten .* is 256 .*"),
        (9, "drop", "shorten the rows: the base model's context is 9 tokens"),
    ],
)
def test_where_no_row_fits_that_is_said_with_a_length_that_the_model_has(
    tmp_path: Path, project: Path, base: Path, window: int | None, too_long: str, mend: str
) -> None:
    long_row = {"text": "what is the weather like " * 60, "answer": {"intent": "on"}}
    write_jsonl(project, [*rows(), long_row])
    if window:
        text = {"text_config": {"max_position_embeddings": window}}
        (base / "config.json").write_text(json.dumps(text), encoding="utf-8")
    with pytest.raises(BadDataError) as caught:
        Prepared(tmp_path, make_config(max_length=8, too_long=too_long), base)
    if too_long == "drop":
        said = (
            r"all 121 rows are longer than data\.max_length=8; .* rows\.jsonl:121 with \d+ tokens"
        )
        assert re.fullmatch(said, caught.value.what)
    found = re.fullmatch(mend, caught.value.mend)
    assert found, caught.value.mend
    length = int(found[1]) if found.groups() else window
    if length != 9:
        done = Prepared(tmp_path, make_config(max_length=length, too_long="drop"), base, "b")
        assert len(done.rows) >= len(rows())


def test_equal_input_gives_equal_bytes_and_another_seed_another_split(
    tmp_path: Path, project: Path, base: Path
) -> None:
    def digests(done: Prepared) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(done.folder.iterdir())
        }

    one = digests(Prepared(tmp_path, make_config(), base, "a"))
    assert one == digests(Prepared(tmp_path, make_config(), base, "b"))
    other = digests(Prepared(tmp_path, make_config(seed=1), base, "c"))
    assert one["test.parquet"] != other["test.parquet"]


def test_report_agrees_with_the_files(tmp_path: Path, project: Path, base: Path) -> None:
    done = Prepared(tmp_path, make_config(split={"strategy": "stratified"}), base)
    report = done.report
    assert report["format_version"] == "1.1"
    assert report["counts"] == {name: len(split) for name, split in done.splits.items()}
    for name, split in done.splits.items():
        assert report["tokens"][name] == {
            "total": sum(len(row.input_ids) for row in split),
            "trained": sum(token != IGNORED for row in split for token in row.labels),
        }
        counted = {"on": 0, "off": 0}
        for row in split:
            counted[row.label] += 1
        assert report["labels"][name] == counted
    for part in ("prompt", "answer", "total"):
        assert sum(report["lengths"][part]["histogram"]["counts"]) == len(done.rows)
    assert report["lengths"]["total"]["max"] == max(len(row.input_ids) for row in done.rows)
    by_id = {row.id: row for row in done.rows}
    for shown in report["examples"]:
        row = by_id[shown["id"]]
        assert [part["trained"] for part in shown["segments"]] == [False, True]
        assert shown["segments"][0]["text"] == row.prompt
        assert shown["segments"][1]["text"] == row.completion + "<|im_end|>"


def test_rows_of_several_files_are_one_pile_and_know_their_file(tmp_path: Path, base: Path) -> None:
    project = tmp_path / "project"
    write_jsonl(project, rows()[:70], "b.jsonl")
    cells = ["text;answer", *(f"{row['text']};{_quoted(row['answer'])}" for row in rows()[70:])]
    (project / "a.csv").write_bytes(gzip.compress("\n".join(cells).encode("utf-16")))
    (project / "a.csv").rename(project / "a.csv.gz")
    source = {"type": "file", "path": ["b.jsonl", "a.csv.gz"], "encoding": "utf-16"}
    with pytest.raises(BadDataError, match=r"^b\.jsonl:1: not utf-16"):
        Prepared(tmp_path, make_config(source=source), base, "none")
    (project / "b.jsonl").write_bytes((project / "b.jsonl").read_text().encode("utf-16"))
    done = Prepared(tmp_path, make_config(source=source), base)
    assert sorted(row.id for row in done.rows) == list(range(120))
    assert [(file["path"], file["rows"]) for file in done.report["files"]] == [
        ("b.jsonl", 70), ("a.csv.gz", 50),
    ]  # fmt: skip
    assert done.report["files"][1] == {
        "path": "a.csv.gz", "rows": 50, "format": "csv", "delimiter": ";",
        "encoding": "utf-16", "compression": "gzip",
    }  # fmt: skip
    assert done.progress.lines[:3] == [
        "b.jsonl: in utf-16",
        "a.csv.gz: divided by semicolons, in utf-16, unpacked (gzip)",
        "120 rows read from 2 files",
    ]
    one = Prepared(tmp_path, make_config(source=source | {"path": write_all(project)}), base, "one")
    assert one.splits == done.splits


def _quoted(value: object) -> str:
    return '"' + json.dumps(value).replace('"', '""') + '"'


def write_all(project: Path) -> str:
    lines = "".join(json.dumps(row) + "\n" for row in rows())
    (project / "all.jsonl").write_bytes(lines.encode("utf-16"))
    return "all.jsonl"
