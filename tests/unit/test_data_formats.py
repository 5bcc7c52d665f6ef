"""Delimiters, encodings and compressed files: read right, or refused with how to mend it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slmcompile.data.compression as compression
from slmcompile.checks.rules.first_rows import first_rows
from slmcompile.console.errors import BadDataError
from slmcompile.data.csv_rows import find_delimiter, parse_csv
from slmcompile.data.formats import ReadFile, read_file
from slmcompile.sources.of_data.file import FileData
from tests.data_stage import make_config


def gzipped(content: bytes) -> bytes:
    """Without the time, so that a test's name is the same in every process."""
    return gzip.compress(content, mtime=0)


ROWS = [{"text": "le café n° 1", "label": "oui"}, {"text": "ça va; très, bien", "label": "non"}]


def source(**keys: Any) -> FileData:
    return FileData.model_validate_json(json.dumps({"type": "file", **keys}))


def read(folder: Path, name: str, content: bytes, **keys: Any) -> ReadFile:
    (folder / name).write_bytes(content)
    return read_file(folder, name, source(path=name, **keys))


def early(folder: Path, name: str, **keys: Any) -> list[Any]:
    """What a plan sees of the same file."""
    config = make_config(source={"type": "file", "path": name, **keys})
    return [dict(row.values) for row in first_rows(config, folder).rows]


def values(found: ReadFile) -> list[Any]:
    return [dict(row.values) for row in found.rows]


def csv_text(mark: str) -> str:
    cells = [["text", "label"], *([row["text"], row["label"]] for row in ROWS)]
    return "".join(mark.join(f'"{cell}"' for cell in line) + "\n" for line in cells)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_what_divides_the_cells_is_found_and_said(tmp_path: Path, mark: str) -> None:
    found = read(tmp_path, "a.csv", csv_text(mark).encode())
    assert (values(found), found.delimiter) == (ROWS, mark)
    assert [row.where for row in found.rows] == ["a.csv:2", "a.csv:3"]
    assert early(tmp_path, "a.csv") == ROWS


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("text,label\na;b;c,d\n", ","),
        ("a;b,label\nx;y,z\n", ","),
        ("text;label\nx;1,5\n", ";"),
        ("text;label\r\n", ";"),
        ("text;label\none; two; three\n", ","),
        ("text\na;b\n", ","),
        ('"a;b"\n"x;y"\n', ","),
        ("a|b;c|d\n1|2;3|4\n", "|"),
        ("text\tlabel\n\nx\ty\n", "\t"),
        ("SEP=#\ntext#label\n", "#"),
        ("", ","),
        ('"', ","),
    ],
)
def test_a_comma_file_is_never_taken_for_another(text: str, mark: str) -> None:
    assert find_delimiter(text) == mark


@pytest.mark.parametrize("row", ["1;Hallo;ja", "1;Hallo, Welt;ja"])
def test_a_comma_in_a_name_does_not_divide_what_semicolons_do(tmp_path: Path, row: str) -> None:
    text = f"Nr;Text, frei;Betrifft?\n{row}\n2;Guten Tag;nein\n"
    found = read(tmp_path, "a.csv", text.encode())
    assert (found.delimiter, len(found.rows)) == (";", 2)
    assert list(found.rows[0].values) == ["Nr", "Text, frei", "Betrifft?"]


def test_a_first_row_longer_than_the_look_hides_no_delimiter(tmp_path: Path) -> None:
    text = f'text;label\n"{"a long document, " * 20_000}";on\n'
    assert read(tmp_path, "a.csv", text.encode()).delimiter == ";"


_CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_quoted_cells_come_back_whatever_they_hold(rows: list[tuple[str, str]], mark: str) -> None:
    lines = [("text", "label"), *rows]
    quoted = (mark.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)
    text = "\n".join(quoted)
    assert find_delimiter(text) == mark
    assert [(row.values["text"], row.values["label"]) for row in parse_csv(text, "x")] == rows


def test_excels_first_line_is_no_row(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", ("sep=;\r\n" + csv_text(";")).encode())
    assert (values(found), found.rows[0].where) == (ROWS, "a.csv:3")


@pytest.mark.parametrize(("given", "mark"), [("tab", "\t"), ("\t", "\t"), ("#", "#")])
def test_the_recipe_has_the_last_word(tmp_path: Path, given: str, mark: str) -> None:
    found = read(tmp_path, "a.csv", csv_text(mark).encode(), delimiter=given)
    assert values(found) == ROWS
    assert early(tmp_path, "a.csv", delimiter=given) == ROWS


def test_tsv_has_tabs_even_where_the_header_has_a_comma(tmp_path: Path) -> None:
    found = read(tmp_path, "a.tsv", b"a,b\tc\nx,y\tz\n")
    assert values(found) == [{"a,b": "x,y", "c": "z"}]


def test_a_cell_may_be_of_any_length(tmp_path: Path) -> None:
    cell = "a long document; " * 20_000
    found = read(tmp_path, "a.csv", f'text,label\n"{cell}",on\n'.encode())
    assert values(found) == [{"text": cell, "label": "on"}]


def test_a_broken_row_names_what_divides_the_cells(tmp_path: Path) -> None:
    with pytest.raises(BadDataError) as caught:
        read(tmp_path, "a.csv", b"text;label\na;b\na;b;c\n")
    assert caught.value.what == "a.csv:3: 3 cells, the header has 2"
    assert "quote cells that hold semicolons" in caught.value.mend


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("cp1252", "cp1252"), ("latin-1", "latin-1"), ("utf-16", "utf-16"), ("utf-8", "utf-8-sig"),
        ("utf-16-le", "utf-16-le"), ("UTF8", "utf-8"), ("gb18030", "gb18030"),
    ],
)  # fmt: skip
def test_a_declared_encoding_is_read(tmp_path: Path, encoding: str, written: str) -> None:
    found = read(tmp_path, "a.jsonl", LINES.encode(written), encoding=encoding)
    assert (values(found), found.encoding) == (ROWS, encoding)
    assert early(tmp_path, "a.jsonl", encoding=encoding) == ROWS


@pytest.mark.parametrize(
    ("content", "keys", "what", "mend"),
    [
        (LINES.encode("cp1252"), {}, "a.jsonl:1: not UTF-8 (byte 0xe9); it may be cp1252, which"
         """ reads '{"text": "le café n° 1", "label": "oui"}'""", "data.source.encoding=cp1252"),
        (LINES.encode("utf-16"), {}, "it may be utf-16", "data.source.encoding=utf-16,"),
        (b'{"a": "b"}'.decode().encode("utf-16-le"), {}, "it may be utf-16-le",
         "data.source.encoding=utf-16-le"),
        (b'{"a": "\x81\x8d"}', {}, "a.jsonl:1: not UTF-8 (byte 0x81)", "say what it is"),
        (LINES.encode(), {"encoding": "cp1252"}, "is UTF-8, and data.source.encoding says cp1252",
         "leave data.source.encoding out"),
        (LINES.encode("cp1252"), {"encoding": "ascii"}, "a.jsonl:1: not ascii (byte 0xe9)",
         "data.source.encoding=cp1252"),
    ],
)  # fmt: skip
def test_a_wrong_encoding_is_refused_with_the_likely_one(
    tmp_path: Path, content: bytes, keys: dict[str, str], what: str, mend: str
) -> None:
    for looked in (lambda: read(tmp_path, "a.jsonl", content, **keys),
                   lambda: early(tmp_path, "a.jsonl", **keys)):  # fmt: skip
        with pytest.raises(BadDataError) as caught:
            looked()
        assert what in caught.value.what
        assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("content", "encoding", "what"),
    [
        (b"\xef\xbb\xbf{}\n\x81\x8d\n", "utf-8", "a.jsonl:2: not UTF-8 (byte 0x81)"),
        (b"\xef\xbb\xbf{}\n{}\xff", "utf-8", "a.jsonl:2: not UTF-8 (byte 0xff)"),
        ("{}\n\u0a0a".encode("utf-16") + b"\x00\xdc\n\0", "utf-16", "a.jsonl:2: not utf-16 (byte"),
        ("{}\n".encode("utf-16-be") + b"\xdc\x00", "utf-16-be", "a.jsonl:2: not utf-16-be"),
        ("{}\né\n".encode("gb18030") + b"\xff", "gb18030", "a.jsonl:3: not gb18030 (byte 0xff)"),
    ],
)
def test_the_place_of_a_wrong_byte_is_that_in_the_file(
    tmp_path: Path, content: bytes, encoding: str, what: str
) -> None:
    """Behind a byte order mark, and where a character is of several bytes."""
    with pytest.raises(BadDataError) as caught:
        read(tmp_path, "a.jsonl", content, encoding=encoding)
    assert caught.value.what.startswith(what)


ZSTANDARD = bytes(pa.compress(LINES.encode(), codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "content", "packed"),
    [
        ("a.jsonl.gz", gzipped(LINES.encode()), "gzip"),
        ("a.JSONL.GZ", gzipped(LINES.encode()), "gzip"),
        ("a.jsonl.gz", b"".join(gzipped(f"{x}\n".encode()) for x in LINES.split("\n")),
         "gzip"),
        ("a.jsonl.zst", ZSTANDARD, "Zstandard"),
        ("a.jsonl.zst", ZSTANDARD * 2, "Zstandard"),
    ],
    ids=["gz", "upper case", "members", "zst", "frames"],
)  # fmt: skip
def test_compressed_files_are_read_by_their_ending(
    tmp_path: Path, name: str, content: bytes, packed: str
) -> None:
    found = read(tmp_path, name, content)
    assert values(found)[:2] == ROWS
    assert len(found.rows) == (4 if content == ZSTANDARD * 2 else 2)
    assert (found.format, found.compression) == ("jsonl", packed)
    assert found.rows[1].where == f"{name}:2"
    assert early(tmp_path, name) == (ROWS if packed == "gzip" else [])


def test_delimiter_encoding_and_compression_go_together(tmp_path: Path) -> None:
    content = gzipped(csv_text(";").encode("cp1252"))
    found = read(tmp_path, "a.csv.gz", content, encoding="cp1252")
    assert values(found) == ROWS == early(tmp_path, "a.csv.gz", encoding="cp1252")


@pytest.mark.parametrize(
    ("name", "content", "what", "mend"),
    [
        ("a.jsonl", gzipped(b"{}"), "holds gzip data, and its ending", "to a.jsonl.gz"),
        ("a.csv", ZSTANDARD, "holds Zstandard data, and its ending", "to a.csv.zst"),
        ("a.jsonl.gz", LINES.encode(), "holds no gzip data", "rename it to a.jsonl,"),
        ("a.jsonl.zst", gzipped(b"{}"), "holds no Zstandard data", "rename it to a.jsonl,"),
        ("a.csv", b"PK\x03\x04rest", "a ZIP archive, perhaps a spreadsheet", "store the rows"),
        ("a.jsonl", b"PAR1rest", "holds Parquet", "with the ending that says so"),
        ("a.jsonl.gz", gzipped(LINES.encode() * 50)[:-9], "broken gzip data", "write"),
        ("a.jsonl.zst", ZSTANDARD[:-9], "broken Zstandard data", "write"),
        ("a.parquet.gz", gzipped(b"PAR1"), "compressed within", "unpack it"),
        ("a.txt.gz", gzipped(b"x"), "the ending '.txt' says no format", ".tsv"),
        ("a.jsonl.gz", b"", "the file is empty", "add rows"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, name: str, content: bytes, what: str, mend: str
) -> None:
    with pytest.raises(BadDataError) as caught:
        read(tmp_path, name, content)
    assert caught.value.what.startswith(f"{name}: ")
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_what_a_file_unpacks_to_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(compression, "LARGEST", 3 << 20)
    bomb = b" " * (64 << 20)
    packed = gzipped(bomb) if name.endswith("gz") else pa.compress(bomb, "zstd", asbytes=True)
    assert len(packed) < 1 << 17
    with pytest.raises(BadDataError, match="unpacks to more than 3 MiB"):
        read(tmp_path, name, bytes(packed))
    assert early(tmp_path, name) == []
