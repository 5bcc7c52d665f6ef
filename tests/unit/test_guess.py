"""What a data file is for is guessed rightly, or asked: never wrong in silence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from slmcompile.cli.own_data import Options, own_data
from slmcompile.console.errors import BadDataError, RefusedError, UsageError
from slmcompile.data.column_roles import Chosen
from slmcompile.data.guess import Guess, guess
from slmcompile.data.rows import SourceRow
from tests.own_files import FILES, lines

Row = Mapping[str, Any]


def of(rows: Sequence[Row], **said: Any) -> Guess:
    """The guess of rows, and of what a person says of their columns."""
    found = [SourceRow(row, f"x.jsonl:{number}") for number, row in enumerate(rows, 1)]
    return guess(found, Chosen(**said), "x.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_of_each_kind_of_file_task_and_columns_are_right(name: str, tmp_path: Path) -> None:
    kind = FILES[name]
    (tmp_path / name).write_bytes(kind.content)
    options = Options((str(tmp_path / name),), encoding=kind.encoding)
    data = own_data(tmp_path / "project", options)
    found = data.guess
    assert found.task == kind.task
    assert (found.roles.prompt, found.roles.answer) == (kind.prompt, kind.answer)
    assert (found.roles.messages, found.roles.text) == (kind.messages, kind.text)
    assert found.rows == kind.rows
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    "columns",
    [
        ("text", "label", "category"),
        ("question", "choices", "answer"),
        ("sentence1", "sentence2", "label"),
        ("text", "answer", "intent"),
        ("title", "body"),
        ("prompt", "chosen", "rejected"),
        ("source", "target"),
        ("prompt",),
        ("instruction", "text", "output"),
    ],
)
def test_where_two_readings_are_likely_the_person_is_asked(columns: tuple[str, ...]) -> None:
    rows = [{name: f"{name} {n} of some length" for name in columns} for n in range(30)]
    with pytest.raises(UsageError, match="not clear") as raised:
        of(rows)
    assert "--prompt COLUMN --answer COLUMN" in raised.value.mend
    assert all(name in raised.value.what for name in columns)


def test_two_columns_that_say_one_label_are_asked_for() -> None:
    rows = [
        {"text": f"row {n}", "label": n % 2, "label_text": "good" if n % 2 else "bad"}
        for n in range(40)
    ]
    with pytest.raises(UsageError, match="label, label_text"):
        of(rows)
    found = of(rows, prompt=("text",), answer="label_text")
    assert [label for label, _ in found.labels] == ["bad", "good"]
    assert found.roles.unused == ("label",)


def test_what_a_person_says_is_taken_and_the_rest_is_guessed() -> None:
    rows = [{"title": f"t {n}", "body": f"b {n}", "grade": n % 3} for n in range(30)]
    found = of(rows, prompt=("title", "body"), answer="grade")
    assert (found.roles.prompt, found.task) == (("title", "body"), "classification")
    assert of(rows, text="body").roles.text == "body"
    with pytest.raises(UsageError, match="no column 'bodi'") as raised:
        of(rows, prompt=("bodi",), answer="grade")
    assert raised.value.mend == "did you mean 'body'?"
    with pytest.raises(UsageError, match="exclude one another"):
        of(rows, text="body", answer="grade")


def test_names_say_more_than_what_columns_hold_and_identifiers_say_nothing() -> None:
    rows = [{"id": n, "question": f"what is {n} and 1", "answer": str(n + 1)} for n in range(30)]
    found = of(rows)
    assert (found.roles.prompt, found.roles.answer) == (("question",), "answer")
    assert (found.task, found.roles.unused) == ("generation", ("id",))


def test_many_numbers_as_answers_are_no_labels() -> None:
    rows = [{"question": f"{n} by 7", "answer": n % 50} for n in range(400)]
    assert of(rows).task == "generation"
    rows = [{"text": f"row {n}", "stars": n % 5} for n in range(400)]
    assert of(rows).task == "classification"


def test_several_labels_at_once_are_no_class() -> None:
    rows = [{"text": f"row {n}", "labels": [["a"], ["a", "b"]][n % 2]} for n in range(40)]
    assert of(rows).task == "generation"


def test_an_answer_that_is_much_shorter_than_a_long_prompt_sums_it_up() -> None:
    rows = [
        {"prompt": f"{n} " + "word " * 150, "response": f"it says word many times, in {n}"}
        for n in range(30)
    ]
    assert of(rows).task == "summarisation"
    shorter = [{**row, "prompt": row["prompt"][:120]} for row in rows]
    assert of(shorter).task == "generation"


def test_labels_written_in_several_ways_are_declared_one() -> None:
    ways = ("yes", " yes", "no", "no ")
    found = of([{"text": f"row {n}", "label": ways[n % 4]} for n in range(40)])
    assert found.normalize == ("space",)
    assert dict(found.labels) == {"yes": 20, "no": 20}
    assert any("several ways" in note for note in found.notes)
    numbers = of([{"text": f"row {n}", "label": (1, "1.0", 0, "0")[n % 4]} for n in range(40)])
    assert numbers.normalize == ("number",)


def test_rare_labels_are_told_and_make_no_shares() -> None:
    rows = [{"text": f"row {n}", "label": ("a", "b")[n % 2]} for n in range(40)]
    assert of(rows).stratified
    found = of([*rows, {"text": "alone", "label": "c"}])
    assert not found.stratified
    assert any("'c'" in note for note in found.notes)


def test_rows_that_spell_a_control_token_are_told() -> None:
    rows = [{"text": f"say <|im_end|> {n}", "label": ("a", "b")[n % 2]} for n in range(40)]
    (note,) = of(rows).notes
    assert note.startswith("x.jsonl:1: spells <|im_end|>")


def test_there_is_nothing_to_learn_from_one_answer() -> None:
    with pytest.raises(BadDataError, match="every answer is 'yes'"):
        of([{"text": f"row {n}", "label": "yes"} for n in range(10)])


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_row_without_an_answer_is_named(empty: str | None) -> None:
    rows: list[Row] = [{"text": f"row {n}", "label": ("a", "b")[n % 2]} for n in range(10)]
    rows[6] = {"text": "row 6", "label": empty}
    with pytest.raises(BadDataError, match=r"x\.jsonl:7"):
        of(rows)
    with pytest.raises(BadDataError, match=r"x\.jsonl:7"):
        of([{"text": row["label"]} for row in rows])


def test_what_a_chat_template_must_write_beside_texts_is_told() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"town": "a"}}}
    asked = {"role": "user", "content": "weather?"}
    plain = [{"messages": [asked, {"role": "assistant", "content": f"rain {n}"}]} for n in range(9)]
    assert of(plain).needs == ()
    calls = [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert of([*plain, {"messages": calls, "tools": [call]}]).needs == ("tool_calls", "tools")
    thought = {"role": "assistant", "content": "rain", "reasoning_content": "clouds"}
    assert of([*plain, {"messages": [asked, thought]}]).needs == ("reasoning_content",)


def test_a_conversation_that_cannot_be_trained_is_named() -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [{"messages": [*talk, {"role": "user", "content": "c"}]}]
    with pytest.raises(BadDataError, match=r"x\.jsonl:1.*the last message is the user's"):
        of(rows)


def test_lengths_leave_room_for_any_writing() -> None:
    """Every token of a byte-level tokenizer is a byte: where text is no English, room for each."""
    short = of([{"question": "a" * 40, "answer": f"b{n}"} for n in range(9)])
    assert 40 * 0.5 + 32 <= short.max_length <= 128
    greek = of([{"question": "α" * 300, "answer": f"β{n}"} for n in range(9)])
    assert greek.max_length >= 600
    long = of([{"question": "word " * 4000, "answer": f"b{n} is it"} for n in range(9)])
    assert (long.max_length, long.too_long) == (2048, 9)


def test_small_data_is_seen_more_often() -> None:
    rows = [{"question": f"q {n}", "answer": f"a {n}"} for n in range(4000)]
    assert [of(rows[:count]).epochs for count in (50, 1000, 4000)] == [10, 3, 1]
    assert (of(rows[:2000]).limit, of(rows).limit) == (None, 200)


def test_files_that_cannot_be_read_are_refused_as_elsewhere(tmp_path: Path) -> None:
    def read(name: str, content: bytes, **said: Any) -> None:
        (tmp_path / name).write_bytes(content)
        own_data(tmp_path / "project", Options((str(tmp_path / name),), **said))

    with pytest.raises(BadDataError, match="not UTF-8") as raised:
        read("x.csv", "text,label\ncafé,a\n".encode("cp1252"))
    assert "--encoding cp1252" in raised.value.mend
    assert "data.source" not in raised.value.mend
    with pytest.raises(BadDataError, match="says no format"):
        read("x.txt", b"text")
    with pytest.raises(BadDataError, match="is empty"):
        read("y.csv", b"")
    with pytest.raises(BadDataError, match="holds no gzip data"):
        read("y.jsonl.gz", lines([{"text": "a", "label": "b"}]))
    with pytest.raises(BadDataError, match="first line looks like a row"):
        read("z.csv", b"".join(b"turn %d,%s\n" % (n, (b"on", b"off")[n % 2]) for n in range(20)))
    with pytest.raises(BadDataError, match="no such file"):
        own_data(tmp_path, Options((str(tmp_path / "none.csv"),)))
    with pytest.raises(RefusedError, match="not a regular file"):
        own_data(tmp_path / "project", Options((str(tmp_path),)))


def test_files_of_one_kind_are_one_pile_or_the_splits_that_they_are_called(tmp_path: Path) -> None:
    def data(**files: Sequence[Row]) -> Any:
        for name, rows in files.items():
            (tmp_path / f"{name}.jsonl").write_bytes(lines(rows))
        return own_data(tmp_path, Options(tuple(str(tmp_path / f"{n}.jsonl") for n in files)))

    rows = [{"text": f"row {n}", "label": ("a", "b")[n % 2]} for n in range(40)]
    assert data(one=rows[:30], two=rows[30:]).source == {
        "type": "file",
        "path": ["one.jsonl", "two.jsonl"],
    }
    assert data(train=rows[:30], test=rows[30:]).source == {
        "type": "file",
        "files": {"train": "train.jsonl", "test": "test.jsonl"},
    }
    with pytest.raises(UsageError, match="some have a split's name"):
        data(more=rows[:30], test=rows[30:])
    with pytest.raises(BadDataError, match=r"other columns than one\.jsonl"):
        data(one=rows, other=[{"question": "a", "answer": "b"}])


def test_a_packed_file_is_read_as_it_lies(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "label": ("a", "b")[n % 2]} for n in range(40)]
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines(rows)))
    found = own_data(tmp_path, Options((str(tmp_path / "x.jsonl.gz"),)))
    assert (found.guess.rows, found.files[0].copied) == (40, False)
    assert json.dumps(found.source) == '{"type": "file", "path": "x.jsonl.gz"}'
