"""What is stated is written as in-toto and SLSA say, and read without believing any of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import CorruptError, StaleError
from slmcompile.files.artifact import json_text
from slmcompile.provenance.statement import (
    LARGEST,
    GateResult,
    Statement,
    folder_name,
    read,
    to_json,
    written,
)
from tests.statements import sha, stage, statement

GOLDEN = Path(__file__).with_name("statement.json")

Document = dict[str, Any]


def of(edit: Callable[[Document], object]) -> bytes:
    """A document that somebody has edited, written in our form."""
    content = json.loads(written(statement()))
    edit(content)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def definition(content: Document) -> Document:
    found: Document = content["predicate"]["buildDefinition"]
    return found


def details(content: Document) -> Document:
    found: Document = content["predicate"]["runDetails"]
    return found


def test_the_form_is_what_it_was() -> None:
    assert json_text(to_json(statement())) == GOLDEN.read_text(encoding="utf-8")


def test_the_form_is_that_of_in_toto_and_slsa() -> None:
    content = to_json(statement())
    assert set(content) == {"_type", "subject", "predicateType", "predicate"}
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    assert content["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(definition(content)) == {
        "buildType",
        "externalParameters",
        "internalParameters",
        "resolvedDependencies",
    }
    own = {key for key in details(content) if key.startswith("slmcompile_")}
    assert details(content).keys() - own == {"builder", "byproducts"}
    assert not definition(content)["externalParameters"].keys() & (
        definition(content)["internalParameters"].keys()
    ), "SLSA: no name in both"
    described = [
        *content["subject"],
        *definition(content)["resolvedDependencies"],
        *details(content)["byproducts"],
    ]
    for descriptor in described:
        allowed = {"name", "digest", "content", "annotations"}
        assert descriptor.keys() <= allowed
        assert {"digest", "content"} & descriptor.keys(), "in-toto: a descriptor names one of them"
        assert all(len(value) == 64 for value in descriptor.get("digest", {}).values())
    assert all("digest" in subject for subject in content["subject"])
    assert len({subject["name"] for subject in content["subject"]}) == len(content["subject"])
    for uri in (definition(content)["buildType"], details(content)["builder"]["id"]):
        scheme, _, rest = uri.partition(":")
        assert (scheme, bool(rest)) == ("pkg", True)


def test_by_hand_is_another_builder_than_by_pull_request() -> None:
    by_hand = statement(digest=None, head=None, base=None, pull_request=None, approver="")
    one, other = (details(to_json(each))["builder"]["id"] for each in (statement(), by_hand))
    assert one != other
    assert not {"digest", "head", "base", "pullRequest"} & (
        definition(to_json(by_hand))["externalParameters"].keys()
    )
    assert read(written(by_hand), "x") == by_hand


def test_what_is_written_is_read_again() -> None:
    for each in (
        statement(),
        statement(gates=(), metrics={}, packages={}, materials={}),
        statement(gates=(GateResult("≥ a bar of 1\u00a0%", passed=False),)),
        statement(subjects={"train/ä\u0308 b/ü.bin": sha("x")}),
        statement(metrics={"one/cpu-int8": {"exact_match": 1, "perplexity": 1e-300}}),
    ):
        assert read(written(each), "x") == each


def test_the_order_in_which_things_were_found_shows_nowhere() -> None:
    again = replace(
        statement(),
        subjects=dict(reversed([*statement().subjects.items()])),
        materials=dict(reversed([*statement().materials.items()])),
        packages=dict(reversed([*statement().packages.items()])),
    )
    assert written(again) == written(statement())


def test_a_stage_is_found_by_address_and_by_folder() -> None:
    assert statement().stage("train") == statement().stage("tiny/train")
    assert statement().stage("base-1a2b3c4d").kind == "base"
    assert folder_name("tiny", "train-earlier-1a2b3c4d/train-earlier") == "train-earlier-1a2b3c4d"
    with pytest.raises(KeyError):
        statement().stage("base")


HOSTILE: dict[str, Callable[[Document], object]] = {
    "another kind of statement": lambda c: c.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda c: c.update(predicateType="https://slsa.dev/provenance/v0.2"),
    "another build type": lambda c: definition(c).update(buildType="https://e.example/v1"),
    "no build type": lambda c: definition(c).pop("buildType"),
    "another builder": lambda c: details(c)["builder"].update(id="pkg:pypi/slmcompile#by-hand/v1"),
    "what is not known": lambda c: c.update(more=1),
    "a parameter that is not known": lambda c: definition(c)["externalParameters"].update(more="x"),
    "a time": lambda c: details(c).update(metadata={"startedOn": "2026-11-30T00:00:00Z"}),
    "null for what is not there": lambda c: details(c).update(metadata=None),
    "no subject": lambda c: c.update(subject=[]),
    "a subject twice": lambda c: c["subject"].append(c["subject"][0]),
    "subjects out of order": lambda c: c["subject"].reverse(),
    "a subject without a digest": lambda c: c["subject"][0].pop("digest"),
    "a subject with a second digest": lambda c: c["subject"][0]["digest"].update(md5="0" * 32),
    "a digest in capitals": lambda c: c["subject"][0]["digest"].update(sha256="A" * 64),
    "a subject outside": lambda c: c["subject"][0].update(name="export/../../etc/passwd"),
    "a subject at the root": lambda c: c["subject"][0].update(name="/etc/passwd"),
    "a name of two lines": lambda c: c["subject"][0].update(name="a/b\nc"),
    "a name that is no text": lambda c: c["subject"][0].update(name=7),
    "a stage twice": lambda c: details(c)["byproducts"].append(details(c)["byproducts"][0]),
    "a stage of no kind": lambda c: details(c)["byproducts"][0]["annotations"].update(kind="evil"),
    "a train stage that only passed": lambda c: (
        details(c)["byproducts"][1].pop("digest"),
        details(c)["byproducts"][1].update(content="cGFzc2Vk"),
    ),
    "a gate with a manifest": lambda c: (
        details(c)["byproducts"][3].pop("content"),
        details(c)["byproducts"][3].update(digest={"sha256": "0" * 64}),
    ),
    "other content": lambda c: details(c)["byproducts"][3].update(content="ZXZpbA=="),
    "no stages": lambda c: details(c).update(byproducts=[]),
    "a size below nothing": lambda c: details(c)["byproducts"][0]["annotations"].update(size=-1),
    "a size in floats": lambda c: details(c)["byproducts"][0]["annotations"].update(size=1.0),
    "a size without end": lambda c: details(c)["byproducts"][0]["annotations"].update(size=2**63),
    "a bar that is maybe met": lambda c: details(c)["slmcompile_gates"][0].update(passed=1),
    "a bar of two lines": lambda c: details(c)["slmcompile_gates"][0].update(text="a\nb"),
    "a measurement that is a text": lambda c: details(c)["slmcompile_metrics"].update(x={"m": "1"}),
    "a measurement that is true": lambda c: details(c)["slmcompile_metrics"].update(x={"m": True}),
    "an artifact of a bad name": lambda c: details(c)["slmcompile_metrics"].update({"../x": {}}),
    "pull request 0": lambda c: definition(c)["externalParameters"].update(pullRequest=0),
    "a short commit": lambda c: definition(c)["externalParameters"].update(head="1" * 12),
    "a recipe with a path": lambda c: definition(c)["externalParameters"].update(recipe="a/b"),
    "an approver without end": lambda c: details(c).update(slmcompile_approver="x" * 501),
    "lists for objects": lambda c: c.update(predicate=[]),
    "depth": lambda c: c.update(predicate={"buildDefinition": {"buildType": [[[[[[[[[1]]]]]]]]]}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_says_too_little_or_too_much_is_refused(name: str) -> None:
    data = of(HOSTILE[name])
    assert data != written(statement())
    with pytest.raises(CorruptError):
        read(data, "x")


GOOD = written(statement())
FORMS = {
    "nothing": b"",
    "no JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "spaces": GOOD.replace(b",", b", ", 1),
    "a newline behind": GOOD + b"\n",
    "a mark before": b"\xef\xbb\xbf" + GOOD,
    "not UTF-8": GOOD.replace(b"octo", b"\xff\xfe\xfd\xfc"),
    "half a letter": GOOD.replace(b"octo", rb"\ud800"),
    "an escape": GOOD.replace(b"octo", rb"\u006fcto"),
    "a key twice": GOOD.replace(b'{"_type"', b'{"_type":"evil","_type"', 1),
    "NaN": GOOD.replace(b"1.013", b"NaN"),
    "a number without end": GOOD.replace(b"1.013", b"1e999"),
    "a number in another writing": GOOD.replace(b"1.013", b"1.0130"),
    "digits without end": GOOD.replace(b"1.013", b"1" * 5000),
    "brackets without end": b"[" * 200_000,
    "too large": b" " * (LARGEST + 1),
}


@pytest.mark.parametrize("name", FORMS)
def test_another_writing_of_a_statement_is_none(name: str) -> None:
    assert FORMS[name] != GOOD
    with pytest.raises(CorruptError):
        read(FORMS[name], "x")


def test_a_later_form_is_told_from_a_damaged_one() -> None:
    later = of(lambda c: definition(c).update(buildType="pkg:pypi/slmcompile#run/v2"))
    with pytest.raises(StaleError):
        read(later, "x")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_field_a_statement_or_damage_comes_of_it(data: st.DataObject) -> None:
    content = json.loads(GOOD)
    at: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        below = at[key]
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            break
        at = below
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    at[key] = data.draw(
        st.recursive(leaf, lambda each: st.lists(each) | st.dictionaries(st.text(), each))
    )
    document = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    given_bytes = document.encode("utf-8", "surrogatepass")
    try:
        found = read(given_bytes, "x")
    except (CorruptError, StaleError):
        return
    assert isinstance(found, Statement)
    assert written(found) == given_bytes


def test_a_statement_of_many_files_is_not_too_large() -> None:
    many = statement(
        subjects={f"train/{number}": sha(str(number)) for number in range(9000)},
        stages=tuple(stage(f"tiny/answer-{n}", "answer", sha(str(n))) for n in range(300)),
    )
    assert read(written(many), "x") == many
