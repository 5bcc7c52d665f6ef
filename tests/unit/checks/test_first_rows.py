"""plan reads only the beginning of a data file and does not take its cut end for broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmcompile.checks.rules.first_rows import LIMIT, first_rows
from slmcompile.console.errors import BadDataError, RefusedError
from tests.data_stage import make_config, rows

ROWS = [row | {"note": "é" * 50} for row in rows() * 20]


def _jsonl() -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def _json() -> str:
    return json.dumps(ROWS, ensure_ascii=False, indent=1)


def _csv() -> str:
    cells = "".join(f'"{row["text"]}","two\nlines {row["note"]}"\n' for row in ROWS)
    return f"text,answer\n{cells}"


TEXTS = {"rows.jsonl": _jsonl, "rows.json": _json, "rows.csv": _csv}


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_file_is_read_up_to_the_limit(tmp_path: Path, name: str) -> None:
    text = TEXTS[name]()
    assert len(text.encode()) > 2 * LIMIT
    # What lies behind the limit is not looked at.
    (tmp_path / name).write_bytes(text.encode() + b"\xff broken")
    seen = first_rows(make_config(source={"type": "file", "path": name}), tmp_path)
    assert not seen.whole
    assert 100 < len(seen.rows) < len(ROWS) / 2
    assert [row.values["text"] for row in seen.rows] == [
        row["text"] for row in ROWS[: len(seen.rows)]
    ]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_part_of_wide_characters_ends_with_a_line(
    tmp_path: Path, name: str, encoding: str
) -> None:
    """The bytes of a line's end are those of letters too, and stand between letters."""
    text = TEXTS[name]().replace("é", "\u0a0a\u0d0a")
    (tmp_path / name).write_bytes(text.encode(encoding))
    source = {"type": "file", "path": name, "encoding": encoding}
    seen = first_rows(make_config(source=source), tmp_path)
    assert not seen.whole
    assert 20 < len(seen.rows) < len(ROWS) / 2
    assert [row.values["text"] for row in seen.rows] == [
        row["text"] for row in ROWS[: len(seen.rows)]
    ]


@pytest.mark.parametrize("before", ["", " "])
def test_an_array_in_one_line_is_read_up_to_the_limit(tmp_path: Path, before: str) -> None:
    rows = [{"text": "a"}, {"text": "é" * LIMIT}]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    (tmp_path / "rows.json").write_text(before + text, encoding="utf-8")
    seen = first_rows(make_config(source={"type": "file", "path": "rows.json"}), tmp_path)
    assert ([row.values for row in seen.rows], seen.whole) == (rows[:1], False)


@pytest.mark.parametrize("name", TEXTS)
def test_a_short_file_is_read_whole_and_its_faults_are_named(tmp_path: Path, name: str) -> None:
    short = {
        "rows.jsonl": '{"text": "a"}\n',
        "rows.json": '[{"text": "a"}]',
        "rows.csv": "text\na\n",
    }
    config = make_config(source={"type": "file", "path": name})
    (tmp_path / name).write_text(short[name], encoding="utf-8")
    seen = first_rows(config, tmp_path)
    assert seen.whole
    assert [row.values for row in seen.rows] == [{"text": "a"}]
    (tmp_path / name).write_text(short[name] + '\n"a', encoding="utf-8")
    with pytest.raises(BadDataError, match=name.replace(".", r"\.")):
        first_rows(config, tmp_path)


def test_every_file_of_given_splits_is_looked_at(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({name: 1}), encoding="utf-8")
    files = {"train": "a.jsonl", "test": "b.jsonl"}
    seen = first_rows(make_config(source={"type": "file", "files": files}), tmp_path)
    assert [list(row.values) for row in seen.rows] == [["a"], ["b"]]
    assert seen.train == 1


def test_parquet_and_hubs_are_left_to_the_data_stage(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    sources = (
        {"type": "file", "path": "rows.parquet"},
        {"type": "hub", "repo_id": "a/b", "revision": "0" * 40, "splits": {"train": "train"}},
    )
    for source in sources:
        seen = first_rows(make_config(source=source), tmp_path)
        assert (seen.rows, seen.whole) == ((), False)


def test_nothing_outside_the_project_is_opened(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "secret.jsonl").write_text("{}", encoding="utf-8")
    config = make_config(source={"type": "file", "path": "../secret.jsonl"})
    with pytest.raises(RefusedError):
        first_rows(config, tmp_path / "project")
