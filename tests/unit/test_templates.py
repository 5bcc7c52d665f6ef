"""Format strings over columns: what they write, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import (
    BadDataError,
    BadRecipeError,
    CorruptError,
    RefusedError,
    UsageError,
)
from slmcompile.data.prompt import prompt_pieces
from slmcompile.data.rows import SourceRow, as_text
from slmcompile.data.template import doubled, escape, fields, fill, parse

KEY = "data.template.prompt"


@pytest.mark.parametrize(
    "template", ["{x.__class__}", "{x[0]}", "{x.y}", "a {__class__.__mro__[1]} b", "{0[a]}"]
)
def test_a_field_that_reaches_into_a_value_is_refused(template: str) -> None:
    with pytest.raises(RefusedError, match=r"data\.template\.prompt: .* reaches into a value"):
        parse(template, KEY)


@pytest.mark.parametrize(
    "template", ["{x!r}", "{x:>99999999}", "{x:{y}}", "{}", "{ }", "{", "a}", "{x"]
)
def test_conversions_formats_and_unpaired_braces_are_errors(template: str) -> None:
    with pytest.raises(BadRecipeError, match=r"^data\.template\.prompt: "):
        parse(template, KEY)


@pytest.mark.parametrize(
    ("template", "where", "meant"),
    [
        ('{"intent": "{intent}"}', "column 1", '{{"intent": "{intent}"}}'),
        ('{"a": {"b": "{c}"}}', "column 1", '{{"a": {{"b": "{c}"}}}}'),
        ('{{"a": {"b": "{c}"}}}', "column 8", '{{"a": {{"b": "{c}"}}}}'),
        ("{my col}: { 'a': [{b}]}", "column 11", "{my col}: {{ 'a': [{b}]}}"),
        ('say\n{\n  "a": "{b}"\n}', "line 2, column 1", r'say\n{{\n  "a": "{b}"\n}}'),
    ],
)
def test_braces_of_json_are_named_and_shown_doubled(template: str, where: str, meant: str) -> None:
    with pytest.raises(BadRecipeError) as caught:
        parse(template, KEY)
    assert caught.value.what == f"{KEY}: the brace at {where} opens no column"
    assert caught.value.mend == f"double each brace that stands for itself: {meant}"
    assert parse(doubled(template), KEY)
    assert fields(parse(doubled(template), KEY)) == fields(parse(meant.replace(r"\n", "\n"), KEY))


def test_a_brace_that_is_left_over_is_shown_doubled() -> None:
    with pytest.raises(BadRecipeError) as caught:
        parse('{{"a": "{b}"}', KEY)
    assert caught.value.mend == 'double a brace that stands for itself: {{"a": "{b}"}}'


def test_fields_are_filled_and_doubled_braces_stay() -> None:
    pieces = parse('{a} {{"k": {b}}} {a}{{}}', KEY)
    assert fields(pieces) == ("a", "b")
    assert fill(pieces, {"a": "{b}", "b": "2"}.__getitem__) == '{b} {"k": 2} {b}{}'


@settings(deadline=None)
@given(st.text(), st.text())
def test_values_and_escaped_literals_come_out_as_they_went_in(literal: str, value: str) -> None:
    pieces = parse(escape(literal) + "{column}", KEY)
    assert fill(pieces, lambda _: value) == literal + value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        ("", ""),
        (3, "3"),
        (0.1, "0.1"),
        (True, "true"),
        ({"b": [1, "é"], "a": None}, '{"b": [1, "é"], "a": null}'),
        ([], "[]"),
    ],
)
def test_values_are_written_as_json_or_repr(value: object, text: str) -> None:
    assert as_text(SourceRow({"x": value}, "f:1"), "x", {}) == text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), b"a", [float("nan")], [b"a"]])
def test_values_without_text_are_errors_that_name_row_and_column(value: object) -> None:
    with pytest.raises(BadDataError, match=r"^f:1: column 'x' "):
        as_text(SourceRow({"x": value}, "f:1"), "x", {})


PROMPT = {
    "format_version": "1.0",
    "text": "{{q}} {phrase} in {tone}:",
    "columns": ["phrase", "tone"],
    "template": {"type": "text"},
}


def test_a_prompt_for_serving_is_filled() -> None:
    assert prompt_pieces(PROMPT, {"phrase": "{x}", "tone": "b"}) == ("{q} {x} in b:",)


@pytest.mark.parametrize("values", [{"phrase": "a"}, {"phrase": "a", "tone": "b", "c": "d"}])
def test_a_prompt_needs_exactly_its_columns(values: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"column '(tone|c)'"):
        prompt_pieces(PROMPT, values)


def test_an_unknown_format_version_is_refused_and_a_newer_minor_is_read() -> None:
    values = {"phrase": "a", "tone": "b"}
    with pytest.raises(CorruptError, match=r"format_version '2\.0'"):
        prompt_pieces(PROMPT | {"format_version": "2.0"}, values)
    assert prompt_pieces(PROMPT | {"format_version": "1.7"}, values) == ("{q} a in b:",)


def test_a_prompt_that_needs_the_chat_template_says_so() -> None:
    with pytest.raises(UsageError, match="chat template"):
        prompt_pieces(PROMPT | {"text": None}, {"phrase": "a", "tone": "b"})


def test_serving_a_prompt_and_naming_metrics_import_nothing_heavy() -> None:
    program = (
        "import sys, slmcompile.data.prompt, slmcompile.data.template, slmcompile.metrics;"
        "print([n for n in ('torch', 'transformers', 'numpy', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
