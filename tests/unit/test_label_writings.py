"""One label in several writings is found, named and, where the recipe says so, written once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmcompile.data.label_writings import several_writings
from slmcompile.data.labels import label_of, label_span
from slmcompile.data.normal_label import STEPS, normal_answer, normal_json, normal_text
from slmcompile.recipe.schema import LabelStep


@pytest.mark.parametrize(
    ("steps", "text", "normal"),
    [
        (["space"], "\tyes \n", "yes"),
        (["space"], "New\u00a0 York\u200b", "New York"),
        (["number"], "1.0", "1"),
        (["number"], "-0.00", "0"),
        (["number"], "TRUE", "1"),
        (["number"], "false", "0"),
        (["number"], " 1.0", " 1.0"),
        (["space", "number"], " 1.0", "1"),
        (["number"], "3.10", "3.10"),
        (["number"], "007", "007"),
        (["number"], "1e3", "1e3"),
        (["case"], "Straße", "straße"),
        (["unicode"], "cafe\u0301 １", "café 1"),
        ([], " 1.0", " 1.0"),
    ],
)
def test_a_step_takes_one_kind_of_difference_away(
    steps: list[LabelStep], text: str, normal: str
) -> None:
    assert normal_text(text, steps) == normal


@pytest.mark.parametrize(
    ("steps", "answer", "normal"),
    [
        (["number"], '{"a": 1, "n": "1.0" , "b":[2.0]}', '{"a": 1, "n": 1 , "b":[2.0]}'),
        (["number"], '{"n": true}', '{"n": 1}'),
        (["space", "case"], '{ "n" :"\\tYes","t": "Yes "}', '{ "n" :"yes","t": "Yes "}'),
        (["case"], '{"n": "caf\\u00e9"}', '{"n": "caf\\u00e9"}'),
        (["case"], '{"n": true}', '{"n": true}'),
        (["case"], '{"n": "A", "n": "B"}', '{"n": "A", "n": "b"}'),
        (["space"], '{"m": " a"}', '{"m": " a"}'),
        (["space"], "no JSON ", "no JSON "),
    ],
)
def test_the_label_alone_is_changed_within_an_answer(
    steps: list[LabelStep], answer: str, normal: str
) -> None:
    assert normal_answer(answer, "n", steps) == normal


@given(
    st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), st.text(max_size=6)), min_size=1),
    st.booleans(),
)
def test_a_label_is_found_where_it_stands(values: dict[str, object], spaced: bool) -> None:
    key = list(values)[-1]
    answer = json.dumps(values, indent=2 if spaced else None)
    found = label_span(answer, key)
    assert found is not None
    start, end, value = found
    assert value == values[key]
    assert json.loads(answer[start:end]) == values[key]


@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(allow_nan=False), st.booleans()))
def test_normalising_twice_changes_nothing_more(value: object) -> None:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return
    once = normal_json(value, STEPS)
    assert normal_json(json.loads(once), STEPS) == once


@given(st.text(max_size=30), st.sampled_from([None, "n"]))
def test_what_is_trained_is_what_is_compared(answer: str, key: str | None) -> None:
    """The label of a normalised answer is the same text whichever writing it came from."""
    normal = normal_answer(answer, key, ["space", "number"])
    padded = normal_answer(f" {answer}", key, ["space", "number"])
    assert label_of(normal, key) == label_of(padded, key)


def writings(labels: list[str], key: str | None = None) -> list[tuple[list[str], bool, list[str]]]:
    found = several_writings([(label, f"row {n}") for n, label in enumerate(labels)], key)
    return [([each.text for each in one.writings], one.sure, [*one.steps]) for one in found]


def test_numbers_and_truth_values_are_one_label() -> None:
    assert writings(["1", "1", "1.0", "true", "0", "no"]) == [
        (['"1"', '"1.0"', '"true"'], True, ["number"])
    ]
    assert writings(["True", "true", "False"]) == [(['"True"', '"true"'], True, ["case"])]


def test_white_space_and_composed_letters_make_no_other_label() -> None:
    assert writings([" yes", "yes", "yes\n", "no "]) == [
        (['" yes"', '"yes"', '"yes\\n"'], True, ["space"])
    ]
    assert writings(["café", "cafe\u0301"]) == [(['"cafe\\u0301"', '"café"'], True, ["unicode"])]


def test_case_alone_may_be_meant() -> None:
    assert writings(["US", "us", "it"]) == [(['"US"', '"us"'], False, ["case"])]
    assert writings(["Yes", "yes", "yes "])[0][1:] == (True, ["space", "case"])
    assert writings(["Ja", "JA", "ja "])[0][1:] == (True, ["space", "case"])
    assert writings(["Ja\xa0", "JA"])[0][1:] == (True, ["space", "case"])


def test_types_within_json_are_writings_too() -> None:
    rows = ['{"n": 1}', '{"n": "1"}', '{"n": 1.0}', '{"n": "1 "}', '{"n": 2}']
    assert writings(rows, "n") == [(['"1 "', '"1"', "1", "1.0"], True, ["space", "number"])]


@pytest.mark.parametrize("labels", [["3.1", "3.10"], ["7", "007"], ["yes", "no", "ye s"], ["1"]])
def test_different_labels_stay_different(labels: list[str]) -> None:
    assert writings(labels) == []


def test_counts_places_and_the_order_of_what_is_found() -> None:
    labels = ["A", "a", "1", "1.0", "1.0"]
    first, second = several_writings([(label, f"x:{n}") for n, label in enumerate(labels)], None)
    assert str(first) == '"1.0" (2 rows, first x:3), "1" (1 rows, first x:2)'
    assert (first.sure, second.sure) == (True, False)
