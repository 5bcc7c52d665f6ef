"""What is asked of a model is what the person wrote: no word is dropped, no column is guessed."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from slmcompile.console.errors import BadDataError, UsageError
from slmcompile.data.asked import example, of_lines, of_words, written

ONE, TWO = ["text"], ["question", "context"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["turn", "it", "off"], "turn it off"),
        (["turn it off"], "turn it off"),
        (["text=turn", "it", "off"], "turn it off"),
        (["text=x=5"], "x=5"),
        (["set x=5"], "set x=5"),
        (["set", "x=5"], "set x=5"),
        (["2+2=4"], "2+2=4"),
        (["=", "a"], "= a"),
        (["text="], ""),
    ],
)
def test_every_word_is_part_of_the_text(words: list[str], text: str) -> None:
    assert of_words(words, ONE) == {"text": text}


def test_a_value_goes_on_to_the_next_column() -> None:
    words = ["context=a", "b", "question=who", "is=it"]
    with pytest.raises(UsageError, match="is: the prompt has the columns question, context"):
        of_words(words, TWO)
    assert of_words(words[:3], TWO) == {"question": "who", "context": "a b"}


@pytest.mark.parametrize(
    ("words", "columns", "what", "mend"),
    [
        (
            ["txet=hi"],
            ONE,
            "txet: the prompt has the column text alone",
            "did you mean text=…? for a text with = in it write text=txet=hi",
        ),
        (
            ["x=5 + y"],
            ONE,
            "x: the prompt has the column text alone",
            "for a text with = in it write 'text=x=5 + y'",
        ),
        (
            ["hello"],
            TWO,
            "the prompt has the columns question, context",
            'question="…" context="…"',
        ),
        (
            ["question=who"],
            TWO,
            "the prompt has the columns question, context; not given: context",
            'question="…" context="…"',
        ),
        (
            ["question=a", "context=b", "question=c"],
            TWO,
            "question: is given twice",
            "give each column once",
        ),
        (
            ["qestion=a"],
            TWO,
            "qestion: the prompt has the columns question, context",
            'did you mean question=…? question="…" context="…"',
        ),
    ],
)
def test_what_is_no_column_is_named_and_not_sent(
    words: list[str], columns: list[str], what: str, mend: str
) -> None:
    with pytest.raises(UsageError) as caught:
        of_words(words, columns)
    assert (caught.value.what, caught.value.mend) == (what, mend)
    with pytest.raises(UsageError) as caught:
        of_words(words, columns, "slmcompile generate r")
    if '="…"' in mend:
        assert 'slmcompile generate r question="…" context="…"' in caught.value.mend


@pytest.mark.parametrize(
    "values",
    [
        {"text": "it's on"},
        {"text": "x=5"},
        {"text": "text=5"},
        {"text": "-5 degrees"},
        {"text": ""},
        {"question": "who's there?", "context": 'a "b"\n$HOME'},
        {"my column": "a", "b": "c=d"},
    ],
)
def test_the_printed_words_are_read_back_by_a_shell_and_by_us(values: dict[str, str]) -> None:
    assert of_words(shlex.split(written(values)), list(values)) == values


def test_lines_are_texts_or_rows_and_a_broken_one_is_named() -> None:
    lines = ["hi there\n", '{"text": 5, "more": 1}\r\n', "{a}\n", "\n", ""]
    assert [each["text"] for each in of_lines(lines, ONE, "f")] == ["hi there", "5", "{a}"]
    with pytest.raises(BadDataError, match=r"f\.jsonl:1: not a JSON object"):
        list(of_lines(lines, ONE, "f.jsonl", rows=True))
    with pytest.raises(BadDataError, match="f:1: the prompt has the columns question, context"):
        list(of_lines(lines, TWO, "f"))
    with pytest.raises(BadDataError, match=r"f:1: no column 'text'"):
        list(of_lines(['{"txt": "a"}'], ONE, "f", rows=True))
    with pytest.raises(BadDataError, match=r"f:1: column 'text' is a list of messages"):
        list(of_lines(['{"text": [{"role": "user", "content": "a"}]}'], ONE, "f"))


def test_an_object_without_the_only_column_is_no_text() -> None:
    with pytest.raises(BadDataError) as caught:
        list(of_lines(["hi", '{"a": 1}\n'], ONE, "f"))
    assert caught.value.what == "f:2: the JSON object has no column 'text'"
    written = caught.value.mend.partition("is the text, ")[2]
    assert list(of_lines([written], ONE, "f")) == [{"text": '{"a": 1}'}]


@pytest.mark.parametrize("rows", [False, True])
def test_an_empty_line_in_the_middle_is_named_so_that_answers_stay_beside_lines(rows: bool) -> None:
    lines = ['{"text": "a"}\n', " \n", "\n", '{"text": "b"}\n']
    with pytest.raises(BadDataError, match=r"^f:2: the line is empty"):
        list(of_lines(lines, ONE, "f", rows=rows))


@pytest.mark.parametrize(
    ("template", "columns", "texts", "found"),
    [
        ("Q: {q}\nC: {c}\nA: ", ["q", "c"], ["Q: who\nC: a b\nA: "],
         (0, {"q": "who", "c": "a b"})),
        ("{q} {{}} {q} = ", ["q"], ["on {} on = "], (0, {"q": "on"})),
        ("{q} {{}} {q} = ", ["q"], ["on {} off = "], None),
        ("{my col}.", ["my col"], ["a.b."], (0, {"my col": "a.b"})),
        # What moves a cursor, what is empty, and what no row was.
        ("{q}", ["q"], ["\x1b[2J", " ", "on"], (2, {"q": "on"})),
        (None, ["q"], ["anything"], None),
        ("{q}.", ["q"], [], None),
        # The first that is short; the shortest where none is.
        ("{q}.", ["q"], ["a" * 300 + ".", "bb.", "c."], (1, {"q": "bb"})),
        ("{q}.", ["q"], ["a" * 300 + ".", "b" * 290 + "."], (1, {"q": "b" * 290})),
        # A value cannot open a turn: such a prompt was several turns of a conversation.
        ("<|u|>{q}<|e|>", ["q"], ["<|u|>hi<|e|><|u|>on<|e|>", "<|u|>off<|e|>"],
         (1, {"q": "off"})),
        ("<|u|>{q}<|e|>", ["q"], ["<|u|>hi<|e|><|u|>on<|e|>"], None),
    ],
)  # fmt: skip
def test_an_example_is_a_prompt_that_a_person_can_ask_for(
    template: str | None, columns: list[str], texts: list[str], found: Any
) -> None:
    controls = {"<|u|>": 1, "<|e|>": 2}
    prompt = {"format_version": "1.1", "text": template, "columns": columns,
              "control_tokens": controls}  # fmt: skip
    assert example(prompt, texts) == found
