"""Formats that the data stage reads, and what it says of bad rows, files and recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadDataError, BadRecipeError, RefusedError
from slmcompile.console.progress import Silent
from slmcompile.data.prepare import prepare
from slmcompile.stages import data
from slmcompile.stages.context import Context
from tests.data_stage import CHAT, Prepared, make_config, rows, write_jsonl
from tests.tiny_tokenizer import make_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_jsonl(folder, rows())
    return folder


def write_csv(folder: Path) -> str:
    import csv

    with (folder / "rows.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "answer"])
        writer.writerows([row["text"], json.dumps(row["answer"])] for row in rows())
    return "rows.csv"


def write_json_array(folder: Path) -> str:
    (folder / "rows.json").write_text(json.dumps(rows(), indent=1), encoding="utf-8")
    return "rows.json"


def write_parquet(folder: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows()), folder / "rows.parquet")
    return "rows.parquet"


@pytest.mark.parametrize("write", [write_csv, write_json_array, write_parquet])
def test_every_format_gives_the_same_rows(
    tmp_path: Path, project: Path, base: Path, write: Any
) -> None:
    wanted = Prepared(tmp_path, make_config(), base, "a")
    path = write(project)
    found = Prepared(tmp_path, make_config(source={"type": "file", "path": path}), base, "b")
    assert found.splits == wanted.splits


def test_columns_are_renamed(tmp_path: Path, base: Path) -> None:
    values = [{"utterance text": r["text"], "answer": r["answer"]} for r in rows()]
    write_jsonl(tmp_path / "project", values)
    done = Prepared(tmp_path, make_config(columns={"text": "utterance text"}), base)
    assert done.rows[0].prompt.startswith("turn ")


ROW = '{"text": "turn on", "answer": {"intent": "on"}}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a", ', "broken JSON"),
        ('{"text": "a"} x', "broken JSON: text after the object"),
        ('{"text": "a", "text": "b"}', "'text' occurs twice"),
        ('{"text": "a", "answer": NaN}', "NaN is not JSON"),
        ('["a"]', "the row is list"),
        ('{"txt": "a", "answer": {"intent": "on"}}', "no column 'text'"),
        ('{"text": null, "answer": {"intent": "on"}}', "column 'text' is null"),
        ('{"text": "a", "answer": ""}', "the completion is empty"),
        ('{"text": "a", "answer": {"name": "on"}}', r"no JSON object with a value for 'intent'"),
        ('{"text": "a", "answer": "yes"}', r"no JSON object with a value for 'intent'"),
        ('{"text": "a", "answer": "<|im_end|>b"}', r"spells the control token"),
        ('{"text": "\\ud800", "answer": {"intent": "on"}}', "half a surrogate pair"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, base: Path, line: str, problem: str
) -> None:
    write_jsonl(tmp_path / "project", [ROW, "", line, ROW])
    with pytest.raises(BadDataError, match=rf"^rows\.jsonl:3: .*{problem}"):
        Prepared(tmp_path, make_config(), base)


def test_a_missing_column_names_the_nearest(tmp_path: Path, base: Path) -> None:
    write_jsonl(tmp_path / "project", [{"phrase": "a", "tone": "b"}])
    template = {"type": "text", "prompt": "{phrse}", "completion": "{tone}"}
    with pytest.raises(BadDataError) as caught:
        Prepared(tmp_path, make_config(template=template), base)
    assert caught.value.what == "rows.jsonl:1: no column 'phrse'"
    assert "did you mean 'phrase'?" in caught.value.mend


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", b'[{"text": "a"},\n {"text": }]', r"a\.json:2 \(element 1\): broken JSON"),
        ("a.json", b'[{"text": "a"},\n]', r"a\.json:1 .*after the last element"),
        ("a.json", b'\n{"text": "a"}', r"a\.json:2: the file is not an array"),
        ("a.json", b"[]", r"a\.json: the file has no rows"),
        ("a.jsonl", b" \n", r"a\.jsonl: the file is empty"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"a\.jsonl:2: not UTF-8 \(byte 0xff\)"),
        ("a.csv", b'text,answer\n"a\nb",c\nd\n', r"a\.csv:4: 1 cells, the header has 2"),
        ("a.csv", b"text,text\na,b\n", r"a\.csv:1: column 'text' occurs twice"),
        ("a.csv", b"text,answer\n", r"a\.csv: the file has no rows"),
        ("a.csv", b'text,answer\na,"b\n', r"a\.csv:2: broken CSV"),
        ("a.parquet", b"PAR1 but not really", r"a\.parquet: not Parquet"),
        ("a.txt", b"a", r"a\.txt: the ending '\.txt' says no format"),
    ],
)
def test_a_broken_file_is_named_by_line(
    tmp_path: Path, base: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / name).write_bytes(content)
    with pytest.raises(BadDataError, match="^" + problem):
        Prepared(tmp_path, make_config(source={"type": "file", "path": name}), base)


def test_parquet_errors_name_the_row(tmp_path: Path, base: Path) -> None:
    import datetime as dt

    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "project").mkdir()
    for values, problem in (
        (["a", None], r"rows\.parquet: row 1: column 'text' is null"),
        ([dt.date(2024, 1, 1)] * 2, r"rows\.parquet: row 0: column 'text' has type date"),
        ([1.0, float("nan")], r"rows\.parquet: row 1: column 'text' is nan"),
    ):
        table = pa.table({"text": values, "answer": ['{"intent": "on"}'] * 2})
        pq.write_table(table, tmp_path / "project" / "rows.parquet")
        config = make_config(source={"type": "file", "path": "rows.parquet"})
        with pytest.raises(BadDataError, match="^" + problem):
            prepare(config, tmp_path / "project", base, tmp_path, Silent())


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../secret.jsonl", RefusedError),
        ("/etc/passwd", RefusedError),
        ("link.jsonl", RefusedError),
        ("folder.jsonl", RefusedError),
        ("fifo.jsonl", RefusedError),
        ("rows\x00.jsonl", RefusedError),
        ("gone.jsonl", BadDataError),
    ],
)
def test_only_regular_files_of_the_project_are_read(
    tmp_path: Path, project: Path, base: Path, path: str, error: type[Exception]
) -> None:
    write_jsonl(tmp_path, rows(), "secret.jsonl")
    (project / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (project / "folder.jsonl").mkdir()
    os.mkfifo(project / "fifo.jsonl")
    with pytest.raises(error):
        Prepared(tmp_path, make_config(source={"type": "file", "path": path}), base)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"source": {"type": "file"}}, "exactly one of path and files"),
        ({"template": CHAT, "label": None}, "no chat template"),
    ],
)
def test_a_recipe_that_cannot_be_is_said_so(
    tmp_path: Path, project: Path, changes: dict[str, Any], problem: str
) -> None:
    base = make_tokenizer(tmp_path / "plain", chat_template=None)
    with pytest.raises(BadRecipeError, match=problem):
        Prepared(tmp_path, make_config(**changes), base)


def test_rows_that_cannot_fill_the_splits_are_refused(tmp_path: Path, base: Path) -> None:
    write_jsonl(tmp_path / "project", [rows()[0], rows()[0] | {"text": "Turn on the kitchen 0!"}])
    with pytest.raises(BadDataError, match="cannot fill 3 splits"):
        Prepared(tmp_path, make_config(), base)


def test_rows_dropped_as_too_long_are_named_where_too_few_are_left(
    tmp_path: Path, base: Path
) -> None:
    long = [row | {"text": row["text"] * 30} for row in rows()[2:]]
    write_jsonl(tmp_path / "project", [*rows()[:2], *long])
    with pytest.raises(BadDataError, match=r"cannot fill 3 .*; 118 of 120 rows are longer") as told:
        Prepared(tmp_path, make_config(max_length=64, too_long="drop"), base)
    assert told.value.mend.startswith("raise data.max_length, or add rows")


@pytest.mark.parametrize("repo_id", ["csv", "json"])
def test_a_hub_name_without_owner_never_reaches_a_loader(
    tmp_path: Path, base: Path, repo_id: str
) -> None:
    source = {"type": "hub", "repo_id": repo_id, "revision": "0" * 40, "splits": {"train": "train"}}
    (tmp_path / "project").mkdir()
    with pytest.raises(RefusedError, match="not owner/name"):
        Prepared(tmp_path, make_config(source=source), base)


def test_a_hub_that_cannot_be_reached_is_missing_and_no_local_folder_stands_in(
    tmp_path: Path, project: Path, base: Path
) -> None:
    write_jsonl(tmp_path / "owner", [], "unused.jsonl")
    write_jsonl(tmp_path / "owner" / "name", rows(), "train.jsonl")
    source = {
        "type": "hub",
        "repo_id": "owner/name",
        "revision": "0" * 40,
        "splits": {"train": "train[:4096]"},
    }
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from slmcompile.data.prepare import prepare\n"
        "from slmcompile.console.errors import MissingError\n"
        "from slmcompile.console.progress import Silent\n"
        "from slmcompile.recipe.schema import Data\n"
        "try:\n"
        "    prepare(Data.model_validate_json(sys.argv[1]), Path('project'), Path('base'),"
        " Path('.'), Silent())\n"
        "except MissingError as error:\n"
        "    print(error.what); sys.exit(69)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, make_config(source=source).model_dump_json()],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_OFFLINE": "1",  # the library retries a dead network for 20 s otherwise
            "HF_HOME": str(tmp_path / "hf"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 69, done.stderr
    assert "owner/name@000000000000: the hub" in done.stdout


def test_preparing_text_rows_imports_no_torch(tmp_path: Path, project: Path, base: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from slmcompile.data.prepare import prepare\n"
        "from slmcompile.console.progress import Silent\n"
        "from slmcompile.recipe.schema import Data\n"
        "prepare(Data.model_validate_json(sys.argv[1]), Path('project'), Path('base'),"
        " Path('.'), Silent())\n"
        "print([name for name in ('torch', 'datasets') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, make_config().model_dump_json()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_stage_reads_through_a_link_that_the_policy_allows(tmp_path: Path, base: Path) -> None:
    """The policy of the project it runs in says so; its spec names no place outside."""
    project, far = tmp_path / "project", tmp_path / "far"
    write_jsonl(far, rows())
    (project / "conf/policy").mkdir(parents=True)
    (project / "data").symlink_to(far)
    config = make_config(source={"type": "file", "path": "data/rows.jsonl"})

    def run(out: str) -> Mapping[str, Any]:
        (tmp_path / out).mkdir()
        context = Context(
            project=project, stage="x/data", config=config.model_dump(mode="json"),
            inputs={"base": base}, manifests={}, out=tmp_path / out, scratch=tmp_path,
            fingerprint="", runtime={}, progress=Silent(),
        )  # fmt: skip
        return data.run(context).info

    with pytest.raises(RefusedError, match="is outside the project"):
        run("refused")
    (project / "conf/policy/default.yaml").write_text(f"data_roots: [{far}]\n", encoding="utf-8")
    assert sum(run("out")["rows"].values()) == len(rows())
