"""Rows of several sources in one data set: each read as its own, divided, and mixed as stated."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadDataError, SlmcompileError
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import load_tokenizer
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import SPLITS
from tests.data_stage import CHAT, DEVICES, TEXT, Prepared, make_config, rows, write_jsonl
from tests.tiny_tokenizer import make_tokenizer

MESSAGES = {"type": "messages"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base")


def asked() -> list[dict[str, Any]]:
    return [
        {"q": f"please switch {how} {device}", "a": {"intent": how, "name": device}, "n": number}
        for how in ("on", "off")
        for number, device in enumerate(DEVICES)
    ]


def turns(number: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"first {number}"},
        {"role": "assistant", "content": f"yes {number}"},
        {"role": "user", "content": f"second {number}"},
        {"role": "assistant", "content": f"no {number}"},
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_jsonl(folder, rows(), "told.jsonl")
    write_jsonl(folder, asked(), "asked.jsonl")
    write_jsonl(folder, [{"number": n, "messages": turns(n)} for n in range(60)], "talk.jsonl")
    return folder


def told(**more: Any) -> dict[str, Any]:
    return {"name": "told", "source": {"type": "file", "path": "told.jsonl"}, **more}


def questions(**more: Any) -> dict[str, Any]:
    return {
        "name": "asked",
        "source": {"type": "file", "path": "asked.jsonl"},
        "columns": {"text": "q", "answer": "a"},
        **more,
    }


def talk(**more: Any) -> dict[str, Any]:
    return {
        "name": "talk",
        "source": {"type": "file", "path": "talk.jsonl"},
        "template": {"type": "text", "prompt": "{number}", "completion": "{messages}"},
        **more,
    }


def several(*sources: dict[str, Any], **changes: Any) -> Data:
    return make_config(source=None, sources=list(sources), **changes)


def of_source(found: list[Row], name: str) -> list[Row]:
    return [row for row in found if row.source == name]


def test_each_source_is_read_by_its_own_columns_steps_and_template(
    tmp_path: Path, project: Path, base: Path
) -> None:
    some = {"type": "keep", "column": "n", "values": ["1", "2", "3", "4", "5", "6"]}
    done = Prepared(
        tmp_path,
        several(
            told(), questions(steps=[some], template=CHAT), talk(replay=0.1, template=MESSAGES)
        ),
        base,
    )
    tokenizer = load_tokenizer(base)
    spans = {
        name: {
            tokenizer.decode([token for token in row.labels if token != IGNORED])
            for row in of_source(done.rows, name)
        }
        for name in ("told", "asked", "talk")
    }
    end = "<|im_end|>"
    assert spans["told"] == {json.dumps(row["answer"]) + end for row in rows()}
    kept = [row for row in asked() if 1 <= row["n"] <= 6]
    assert spans["asked"] == {json.dumps(row["a"]) + end for row in kept}
    assert spans["talk"] <= {f"yes {n}{end}no {n}{end}" for n in range(60)}
    prompts = {row.prompt for row in of_source(done.rows, "asked")}
    assert "<|im_start|>user\nplease switch on kitchen 1<|im_end|>\n<|im_start|>assistant\n" in (
        prompts
    )
    assert "turn on the kitchen 0 = " in {row.prompt for row in of_source(done.rows, "told")}
    found = {each["name"]: each for each in done.report["sources"]}
    assert found["asked"]["read"] == 12
    assert found["told"]["stop"] == {"id": tokenizer.eos_token_id, "text": end}
    for name, source in found.items():
        assert source["counts"] == {
            split: len(of_source(done.splits[split], name)) for split in SPLITS
        }
        (first, *_) = source["examples"]
        shown = "".join(part["text"] for part in first["segments"] if part["trained"])
        assert shown in spans[name]
    assert (
        "asked: keep n: 12 of 120 rows are left; counted 1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2"
        in (done.report["notes"])
    )


def test_without_weights_every_row_is_used_once_and_each_source_is_divided_in_proportion(
    tmp_path: Path, project: Path, base: Path
) -> None:
    done = Prepared(tmp_path, several(told(), questions()), base)
    assert len(done.rows) == len({row.id for row in done.rows}) == 240
    for name in ("told", "asked"):
        sizes = {split: len(of_source(done.splits[split], name)) for split in SPLITS}
        assert sizes == {"train": 96, "validation": 12, "test": 12}


def test_weights_are_shares_of_training_rows_and_no_row_stands_twice(
    tmp_path: Path, project: Path, base: Path
) -> None:
    done = Prepared(tmp_path, several(told(weight=3), questions(weight=1)), base)
    train = Counter(row.source for row in done.splits["train"])
    assert train == {"told": 96, "asked": 32}
    assert len({row.id for row in done.splits["train"]}) == 128
    assert Counter(row.source for row in done.splits["test"]) == {"told": 12, "asked": 12}
    assert "told: all 96 training rows, 75.0% of the rows and" in " ".join(done.report["notes"])
    assert "asked: 32 of 96 training rows, 25.0% of the rows" in " ".join(done.report["notes"])
    more = Prepared(tmp_path, several(told(weight=2), questions(weight=1)), base, "more")
    kept = {row.id for row in of_source(done.splits["train"], "asked")}
    assert kept < {row.id for row in of_source(more.splits["train"], "asked")}


def test_rows_are_repeated_where_the_recipe_says_so_alone(
    tmp_path: Path, project: Path, base: Path
) -> None:
    sources = told(weight=3, repeat=True), questions(weight=1)
    train = Prepared(tmp_path, several(*sources), base).splits["train"]
    seen = Counter(row.id for row in of_source(train, "told"))
    assert sum(seen.values()) == 288
    assert set(seen.values()) == {3}
    assert len(of_source(train, "asked")) == 96
    both = told(weight=3, repeat=True), questions(weight=1, repeat=True)
    train = Prepared(tmp_path, several(*both), base, "both").splits["train"]
    # No row of any is left out: all_exhausted.
    assert Counter(row.source for row in train) == {"told": 288, "asked": 96}


def test_replay_is_a_share_of_all_training_rows_apart_from_the_task(
    tmp_path: Path, project: Path, base: Path
) -> None:
    done = Prepared(tmp_path, several(told(), talk(replay=0.2)), base)
    train = done.splits["train"]
    assert len(of_source(train, "talk")) == 24
    assert len(of_source(train, "talk")) / len(train) == 0.2
    assert not of_source(done.splits["validation"], "talk")
    assert len(of_source(done.splits["test"], "talk")) == 3
    for row in done.rows:
        assert row.counted == row.asked == (row.source == "told")
    assert set(done.report["labels"]["train"]) == {"on", "off"}


def test_equal_input_gives_equal_bytes_and_another_seed_other_rows(
    tmp_path: Path, project: Path, base: Path
) -> None:
    config = several(told(weight=1), questions(weight=2), talk(replay=0.1))
    one = Prepared(tmp_path, config, base, "one")
    two = Prepared(tmp_path, config, base, "two")
    for path in sorted(one.folder.iterdir()):
        assert path.read_bytes() == (two.folder / path.name).read_bytes()
    other = several(told(weight=1), questions(weight=2), talk(replay=0.1), seed=1)
    found = Prepared(tmp_path, other, base, "other")
    assert {row.id for row in found.splits["train"]} != {row.id for row in one.splits["train"]}


def test_one_source_says_nothing_of_sources(tmp_path: Path, project: Path, base: Path) -> None:
    import pyarrow.parquet

    config = make_config(source={"type": "file", "path": "told.jsonl"})
    done = Prepared(tmp_path, config, base)
    assert pyarrow.parquet.read_schema(done.folder / "train.parquet").names == [
        "id", "prompt", "completion", "label", "prompt_ids", "input_ids", "labels", "prompt_cuts",
    ]  # fmt: skip
    assert "sources" not in done.report
    assert "sources" not in done.prompt
    assert not {"sources"} & config.model_dump().keys()


def test_rows_of_two_sources_with_one_prompt_are_in_one_split(tmp_path: Path, base: Path) -> None:
    project = tmp_path / "project"
    write_jsonl(project, rows(), "told.jsonl")
    again = [{"text": row["text"].upper(), "answer": {"intent": "x"}} for row in rows()]
    write_jsonl(project, again, "asked.jsonl")
    other = {"name": "loud", "source": {"type": "file", "path": "asked.jsonl"}}
    done = Prepared(tmp_path, several(told(), other), base)
    assert done.report["leaks"] == dict.fromkeys(done.report["leaks"], 0)
    assert len(done.rows) == 240


def test_what_one_source_gives_for_testing_is_not_trained_from_another(
    tmp_path: Path, base: Path
) -> None:
    project = tmp_path / "project"
    write_jsonl(project, rows()[:60], "train.jsonl")
    write_jsonl(project, rows()[60:], "test.jsonl")
    loud = [{"text": row["text"].upper(), "answer": {"intent": "x"}} for row in rows()]
    write_jsonl(project, loud, "loud.jsonl")
    given = {
        "name": "given",
        "source": {"type": "file", "files": {"train": "train.jsonl", "test": "test.jsonl"}},
    }
    other = {"name": "loud", "source": {"type": "file", "path": "loud.jsonl"}}
    done = Prepared(tmp_path, several(given, other), base)
    assert done.report["leaks"] == dict.fromkeys(done.report["leaks"], 0)
    tested = {row.prompt for row in of_source(done.splits["test"], "given")}
    assert tested == {f"{row['text']} = " for row in rows()[60:]}


def test_repeats_over_sources_are_dropped_and_counted(tmp_path: Path, base: Path) -> None:
    project = tmp_path / "project"
    write_jsonl(project, rows(), "told.jsonl")
    write_jsonl(project, [*rows()[:20], *more_rows()], "more.jsonl")
    more = {"name": "more", "source": {"type": "file", "path": "more.jsonl"}}
    done = Prepared(tmp_path, several(told(), more), base)
    assert [each["duplicates"] for each in done.report["sources"]] == [0, 20]
    assert done.report["dropped"]["duplicates"] == 20
    assert len(done.rows) == 120 + len(more_rows())
    write_jsonl(project, rows(), "more.jsonl")
    with pytest.raises(BadDataError) as caught:
        Prepared(tmp_path, several(told(), more), base, "gone")
    assert caught.value.what == "data.sources.1: the train split has no rows of more left"


def more_rows() -> list[dict[str, Any]]:
    return [{"text": row["q"], "answer": row["a"]} for row in asked()]


@pytest.mark.parametrize(
    ("sources", "said", "mend"),
    [
        (
            [told(), questions(columns={"text": "question", "answer": "a"})],
            "data.sources.1: asked.jsonl:1: no column 'question'",
            "data.sources.1.columns renames",
        ),
        (
            [told(), questions(steps=[{"type": "keep", "column": "n", "values": ["77"]}])],
            "data.sources.1.steps.0: keep n leaves no row",
            "values there",
        ),
        (
            [told(), talk(replay=0.5)],
            "data.sources.1.replay: a share of 0.5 beside 96 rows of the task is 96 rows; talk has"
            " 54 to train on",
            "set it to 0.36 at most, add rows, or set repeat: true",
        ),
        (
            [told(weight=1), questions(weight=0.001)],
            "data.sources.1.weight: no training row of asked is left",
            "raise its weight",
        ),
        (
            [told(source={"type": "file", "path": "gone.jsonl"}), questions()],
            "data.sources.0: gone.jsonl: no such file",
            "correct data.sources.0.source or create the file",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_source_is_said_with_its_key(
    tmp_path: Path, project: Path, base: Path, sources: list[Any], said: str, mend: str
) -> None:
    with pytest.raises(SlmcompileError) as caught:
        Prepared(tmp_path, several(*sources), base)
    assert said in caught.value.what
    assert mend in caught.value.mend


def test_serving_writes_the_prompts_of_the_first_source_of_the_task(
    tmp_path: Path, project: Path, base: Path
) -> None:
    done = Prepared(tmp_path, several(talk(replay=0.1), questions(template=CHAT), told()), base)
    assert done.prompt["source"] == "asked"
    assert done.prompt["text"].startswith("<|im_start|>user\n{text}")
    assert {name: each["text"] for name, each in done.prompt["sources"].items()}["told"] == (
        TEXT["prompt"]
    )
    assert done.report["facts"]["same_ids"]["differs"] == ""
