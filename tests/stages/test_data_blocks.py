"""Rows go through the data stage in blocks, on every core: the bytes are those of one block."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from slmcompile.console.errors import BadDataError, MissingError
from slmcompile.data import prepare as program
from slmcompile.data import spill, store, workers
from slmcompile.data.spill import Spill, spilled_into
from slmcompile.data.tokenizer import ids_of, load_tokenizer, texts_of
from slmcompile.shapes.splits import SPLITS
from slmcompile.templates import TEMPLATES
from tests.data_stage import CHAT, TEXT, Prepared, make_config, write_jsonl
from tests.tiny_tokenizer import CHATML, REASONING, make_tokenizer

SMALL = 7
CHAT_BLOCKS = TEMPLATES["chat"].together or 0
DOCUMENTS = {"type": "completion", "text": "{text}"}
FILES = {"type": "file", "files": {"train": "rows.jsonl", "test": "more.jsonl"}}
SOURCES = [
    {"name": "one", "source": {"type": "file", "path": "rows.jsonl"}, "weight": 2.0},
    {"name": "two", "source": {"type": "file", "path": "more.jsonl"}, "weight": 1.0},
    {
        "name": "old",
        "source": {"type": "file", "path": "long.jsonl"},
        "template": DOCUMENTS,
        "replay": 0.2,
    },
]


def drawn(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with repeats, contradictions, leaks over the files, and labels written in two ways."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        how, place = rng.choice(["on", "off", "dim", "Off "]), rng.choice(["hall", "attic"])
        group = rng.randrange(20)
        text = f"turn {how} the {place} lamp {rng.randrange(8)}{rng.choice(['', '!'])} {group}"
        answer = {"intent": how, "name": place if rng.random() < 0.9 else "none"}
        found.append({"text": text, "answer": answer, "group": f"g{group}"})
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base", adds_bos_and_eos=True, chat_template=CHATML)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_jsonl(folder, drawn(150, 1))
    write_jsonl(folder, drawn(90, 2), "more.jsonl")
    long = [{"text": " ".join(["lamp"] * n)} for n in range(1, 120, 3)]
    write_jsonl(folder, long, "long.jsonl")
    return folder


def in_blocks(patch: pytest.MonkeyPatch, rows: int, group: int = store.GROUP) -> None:
    patch.setattr(spill, "BLOCK", rows)
    patch.setattr(store, "GROUP", group)


def files_of(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "change",
    [
        {"split": {"strategy": "stratified"}},
        {"split": {"strategy": "group", "by": "group"}},
        {"source": FILES, "max_length": 40, "too_long": "drop"},
        {"template": CHAT, "special_tokens": "text"},
        {"source": None, "sources": SOURCES, "max_length": 64, "too_long": "drop"},
        {"steps": [{"type": "drop", "column": "group", "values": ["g1", "g2"]}]},
    ],
    ids=["stratified", "group", "files", "chat", "sources", "steps"],
)
def test_blocks_and_processes_change_no_byte(
    tmp_path: Path,
    project: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    values: dict[str, Any] = {"template": TEXT, "normalize_labels": [], **change}
    config = make_config(**values)
    whole = Prepared(tmp_path, config, base, "whole")
    in_blocks(monkeypatch, SMALL)
    parts = Prepared(tmp_path, config, base, "parts")
    monkeypatch.setattr(program, "cores", lambda: 3)
    spread = Prepared(tmp_path, config, base, "spread")
    assert files_of(whole.folder) == files_of(parts.folder) == files_of(spread.folder)
    assert whole.progress.lines == parts.progress.lines == spread.progress.lines


def test_reasoning_in_one_block_is_reasoning_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_tokenizer(tmp_path / "base", chat_template=REASONING)
    answers: list[dict[str, str]] = [
        {"role": "assistant", "content": f"it is {n}"} for n in range(3 * CHAT_BLOCKS * SMALL)
    ]
    for n, answer in enumerate(answers[-SMALL:]):
        answer["reasoning_content"] = f"hm {n}"
    rows = [
        {"messages": [{"role": "user", "content": f"say {n}"}, answer]}
        for n, answer in enumerate(answers)
    ]
    write_jsonl(tmp_path / "project", rows)
    config = make_config(task="generation", label=None, template={"type": "messages"})
    whole = Prepared(tmp_path, config, base, "whole")
    assert whole.prompt["enable_thinking"] is True
    in_blocks(monkeypatch, SMALL)
    monkeypatch.setattr(program, "cores", lambda: 2)
    assert files_of(Prepared(tmp_path, config, base, "parts").folder) == files_of(whole.folder)


def test_row_groups_hold_the_rows_in_their_order(
    tmp_path: Path, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Prepared(tmp_path, make_config(), base, "whole")
    in_blocks(monkeypatch, SMALL, group=10)
    parts = Prepared(tmp_path, make_config(), base, "parts")
    assert parts.splits == whole.splits
    for split in SPLITS:
        written = pq.ParquetFile(store.split_file(parts.folder, split)).metadata
        sizes = [written.row_group(n).num_rows for n in range(written.num_row_groups)]
        assert set(sizes[:-1]) <= {10}
        assert 0 < sizes[-1] <= 10


@pytest.mark.parametrize("processes", [1, 3])
def test_the_first_error_is_told_as_it_was_raised(
    tmp_path: Path, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    rows = drawn(150, 1)
    rows[70]["answer"] = rows[120]["answer"] = None
    write_jsonl(project, rows)
    in_blocks(monkeypatch, SMALL)
    monkeypatch.setattr(program, "cores", lambda: processes)
    with pytest.raises(BadDataError) as error:
        Prepared(tmp_path, make_config(), base)
    assert error.value.what == "rows.jsonl:71: column 'answer' is null"
    assert error.value.mend == "fill the value in or remove the row"
    assert list((tmp_path / "out").iterdir()) == []


def _ended(block: int) -> int:
    if block == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return block


def test_a_process_that_is_ended_is_no_hang_and_no_bug() -> None:
    with pytest.raises(MissingError, match="a process of the data stage was ended"):
        list(workers.in_order(_ended, range(20), 2))


def test_results_come_in_order_and_blocks_are_not_all_taken_at_once() -> None:
    taken = []

    def blocks() -> Any:
        for number in range(40):
            taken.append(number)
            yield number

    ahead = 0
    found = []
    for result in workers.in_order(lambda block: block * 2, blocks(), 2):
        found.append(result)
        ahead = max(ahead, len(taken) - len(found))
    assert found == [2 * number for number in range(40)]
    assert ahead <= 4


def test_what_is_spilled_has_no_name_and_comes_back(tmp_path: Path) -> None:
    values: list[Any] = [{"n": n, "of": [n] * 3} for n in range(spill.BLOCK + 5)]
    values[3] = held = lambda: 3
    with spilled_into(tmp_path):
        found = Spill.of(values)
    assert list(tmp_path.iterdir()) == []
    assert list(found) == values
    assert found[3] is held
    assert found[-1] == values[-1]
    assert found[spill.BLOCK - 1 : spill.BLOCK + 2] == values[spill.BLOCK - 1 : spill.BLOCK + 2]
    with pytest.raises(IndexError):
        found[len(values)]


KILLED = """
import sys
from pathlib import Path
from slmcompile.console.progress import Silent
from slmcompile.data import prepare as program
from slmcompile.data import spill
from slmcompile.data.block import make_block
from slmcompile.recipe.schema import Data
spill.BLOCK = 7
program.cores = lambda: 2
class Told(Silent):
    def step(self, done, **fields):
        print(done, flush=True)
        if done > 30:
            import time
            time.sleep(60)
program.prepare(
    Data.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]),
    Told(),
)
"""


def test_a_kill_leaves_no_file_and_no_process(tmp_path: Path, project: Path, base: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", KILLED, make_config().model_dump_json()]
    with subprocess.Popen(
        [*command, str(project), str(base), str(out)], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if int(line) > 30:
                break
        own = children(running.pid)
        assert len(own) == 2
        running.kill()
    assert list(out.iterdir()) == []
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in own):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {own}")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(each) for each in found.split()]


def test_digests_are_told_apart_as_texts_are() -> None:
    from slmcompile.data.row_keys import alike, digest, digests

    texts = ["a", "b", "a", "", "c", "b"]
    codes = alike(digests(map(digest, texts), 16))
    same = np.array([[one == other for other in texts] for one in texts])
    assert (np.equal.outer(codes, codes) == same).all()


def test_ids_are_those_of_transformers_whatever_was_saved_beside_them(tmp_path: Path) -> None:
    base = make_tokenizer(tmp_path / "base", adds_bos_and_eos=True)
    file = base / "tokenizer.json"
    limit = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    written = json.loads(file.read_text(encoding="utf-8")) | {"truncation": limit}
    file.write_text(json.dumps(written), encoding="utf-8")
    tokenizer = load_tokenizer(base)
    texts = ["turn on the lamp", " two  spaces", "don't , stop .", "日本 é\n", "<s>", "", "</s> a"]
    found = ids_of(load_tokenizer(base), texts)
    assert found == tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert max(map(len, found)) > 3
    assert ids_of(tokenizer, []) == []
    rows = [*tokenizer(texts, add_special_tokens=True)["input_ids"], []]
    assert texts_of(tokenizer, rows) == tokenizer.batch_decode(
        rows, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
