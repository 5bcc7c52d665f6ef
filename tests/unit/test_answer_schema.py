"""Answers against a JSON Schema: what is valid, which schemas are refused, what moves a score."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadDataError, BadRecipeError, RefusedError
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.sides import diff
from slmcompile.lock.references import references
from slmcompile.plans.definition import Plan
from slmcompile.recipe.policy import Policy
from slmcompile.recipe.project import Project
from slmcompile.scoring.json_schema import DEEPEST, DRAFT, JSON_SCHEMA_VALID, open_schema
from tests.projects import command, commit, make_project
from tests.unit.checks.judging import context, judged, make

jsonschema = pytest.importorskip("jsonschema")

COMMAND = {
    "$schema": DRAFT,
    "type": "object",
    "properties": {
        "intent": {"enum": ["on", "off"]},
        "level": {"$ref": "#/$defs/level"},
        "next": {"$ref": "#"},
    },
    "required": ["intent"],
    "additionalProperties": False,
    "$defs": {"level": {"type": "integer", "minimum": 0, "maximum": 100}},
}
ASKED = ("eval.metrics=[exact_match,json_schema_valid]", "++eval.json_schema=schemas/answer.json")


def opened(schema: Any) -> Callable[[str], bool]:
    """A schema, opened."""
    return open_schema(json.dumps(schema).encode(), "answer.json")


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ('{"intent": "on"}', True),
        (' {"intent": "off", "level": 40}\n', True),
        ('{"intent": "on", "level": 1.0}', True),  # an integer to the draft
        ('{"intent": "on", "next": {"intent": "off", "level": 3}}', True),
        ('{"intent": "dim"}', False),
        ('{"intent": "on", "level": 101}', False),
        ('{"intent": "on", "level": true}', False),
        ('{"intent": "on", "room": "hall"}', False),
        ('{"intent": "on", "next": {}}', False),
        ('{"level": 3}', False),
        ('"on"', False),
        ('{"intent": "on"} and more', False),
        ("", False),
        ("[" * 100_000, False),
        ('{"intent": "on", "level": NaN}', False),
    ],
)
def test_an_answer_is_json_and_valid_or_it_is_not(answer: str, valid: bool) -> None:
    assert opened(COMMAND)(answer) is valid


def test_it_is_the_share_of_valid_answers() -> None:
    rows = [{"schema_valid": valid} for valid in (True, True, True, False)]
    assert JSON_SCHEMA_VALID.value(rows) == 0.75
    found = JSON_SCHEMA_VALID.difference(rows, [{"schema_valid": False}] * 4)
    assert (found.value, found.only_one, found.only_other) == (0.75, 3, 0)
    assert found.p == 0.25, "three rows that fall one way: 2 / 2 ** 3"


def test_no_answer_raises() -> None:
    # Chained nearly as far as a schema may be, and asked of every list in a list.
    parts: dict[str, Any] = {f"{n}": {"allOf": [{"$ref": f"#/$defs/{n + 1}"}]} for n in range(11)}
    parts["11"] = {"type": "array", "items": {"$ref": "#/$defs/0"}}
    nested = opened({"$ref": "#/$defs/0", "$defs": parts})
    for depth in (DEEPEST, DEEPEST + 1, 900, 100_000):
        assert nested("[" * depth + "]" * depth) is (depth == DEEPEST)
    tenth = opened({"multipleOf": 0.1})
    assert tenth("1" + "0" * 400) is False
    assert tenth("1" + "0" * 5000) is False
    assert opened({"uniqueItems": True})('[1, {"a": []}, {"a": []}]') is False


def test_the_annotation_format_refuses_nothing() -> None:
    assert opened({"format": "email"})('"nobody"')


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "answer.json: no JSON: "),
        (b"\xff", "answer.json: no JSON: "),
        (b'{"minimum": NaN}', "no JSON: NaN is not JSON"),
        (b"[]", "no JSON Schema: $: [] is not of type 'object', 'boolean'"),
        (b'{"type": "text"}', "no JSON Schema: $.type: 'text' is not valid under any"),
        (b'{"properties": {"a": {"pattern": "("}}}', "no JSON Schema: $.properties.a.pattern"),
        (b'{"$schema": "http://json-schema.org/draft-07/schema#"}', "draft 2020-12 alone is read"),
        (b'{"$schema": 7}', "$schema is 7, and draft 2020-12 alone is read"),
        (b'{"$ref": "https://e.example/a.json"}', "$ref https://e.example/a.json is not in the"),
        (b'{"items": {"$ref": "other.json#/$defs/a"}}', "$ref other.json#/$defs/a is not in"),
        (b'{"$ref": "file:///etc/passwd"}', "$ref file:///etc/passwd is not in the file"),
        (b'{"$ref": "#/$defs/none"}', "$ref #/$defs/none is not in the file"),
        (b'{"$ref": "#none"}', "$ref #none is not in the file"),
        (b'{"$dynamicRef": "https://e.example/a"}', "$dynamicRef https://e.example/a is not in"),
        (
            # Behind a keyword that the draft does not know, where only a reference leads.
            b'{"$ref": "#/parts/a", "parts": {"a": {"not": {"$ref": "https://e.example/b"}}}}',
            "$ref https://e.example/b is not in the file",
        ),
        (b'{"$ref": "#"}', "refers to itself for one and the same value"),
        (b'{"if": {"type": "array"}, "then": {"$ref": "#"}}', "refers to itself for one and the"),
        (b'{"items": {"anyOf": [{"not": {"$ref": "#/items"}}]}}', "refers to itself for one and"),
        (b'{"not":' * 65 + b"{}" + b"}" * 65, "more than 64 objects and lists one in another"),
        (b'{"not":' * 30 + b"{}" + b"}" * 30, "more than 24 schemas are asked of one value"),
    ],
)
def test_what_is_no_schema_of_the_draft_or_not_whole_in_itself_is_refused(
    raw: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", pytest.fail)
    with pytest.raises(BadDataError) as caught:
        open_schema(raw, "answer.json")
    assert said in caught.value.what
    assert caught.value.mend


def test_references_within_the_file_and_to_the_draft_are_followed() -> None:
    named = {"$id": "https://e.example/mine", "$ref": "#level", "$defs": {}}
    named["$defs"] = {"l": {"$anchor": "level", "type": "integer"}}
    assert opened(named)("3")
    assert not opened(named)('"3"')
    embedded = {"$ref": "https://e.example/l", "$defs": {"l": {"$id": "https://e.example/l"}}}
    assert opened(embedded)("3")
    assert opened({"$ref": DRAFT})('{"type": "object"}')
    assert not opened({"$ref": DRAFT})('{"type": "text"}')
    assert opened({"properties": {"$ref": {"const": "https://e.example"}}})("{}"), "a property"
    assert opened({"enum": [{"$ref": "https://e.example"}]})('{"$ref": "https://e.example"}')


# --- in a recipe ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = make(tmp_path_factory.mktemp("project"))
    write(found.root / "schemas" / "answer.json", COMMAND)
    write(found.root / "schemas" / "same.json", COMMAND)
    write(found.root / "schemas" / "other.json", COMMAND | {"required": []})
    return found


def write(path: Path, schema: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(schema), encoding="utf-8")


def asked(project: Project, name: str = "answer") -> Plan:
    return compile_recipe(project, "tiny", [ASKED[0], f"++eval.json_schema=schemas/{name}.json"])


def test_a_score_depends_on_the_schema_and_not_on_its_name(project: Project) -> None:
    plan = asked(project)
    score = plan.stage("score")
    assert score.files == ("schemas/answer.json",)
    assert "schemas/answer.json" in score.deps, "DVC watches it"
    assert score.packages["jsonschema"] == jsonschema.__version__

    def of(name: str) -> str:
        plan = asked(project, name)
        return plan.fingerprints()[plan.stage("score").address]

    assert of("answer") == of("same")
    assert of("answer") != of("other")
    others = asked(project, "other")
    for kind in ("train", "answer"):
        for one, other in zip(plan.of(kind), others.of(kind), strict=True):
            assert plan.fingerprints()[one.address] == others.fingerprints()[other.address]


def test_a_recipe_without_a_schema_says_nothing_of_it(project: Project) -> None:
    plan = compile_recipe(project, "tiny", ())
    for stage in plan.stages():
        assert "json_schema" not in stage.spec_text()
    assert "jsonschema" not in plan.stage("score").packages


def test_the_metric_needs_the_key_and_the_key_a_file(project: Project) -> None:
    with pytest.raises(BadRecipeError) as caught:
        compile_recipe(project, "tiny", [ASKED[0]])
    assert caught.value.what == (
        "override 'eval.metrics=[exact_match,json_schema_valid]': eval.metrics.1:"
        " json_schema_valid needs eval.json_schema"
    )
    assert caught.value.mend == "name a file of the project: eval.json_schema=PATH"
    with pytest.raises(BadDataError) as missing:
        asked(project, "answr")
    assert "eval.json_schema: schemas/answr.json: no such file" in missing.value.what
    assert missing.value.mend == "did you mean 'schemas/answer.json'?"
    for outside in ("/etc/passwd", "../answer.json", "https://e.example/answer.json"):
        with pytest.raises(RefusedError):
            compile_recipe(project, "tiny", [ASKED[0], f"++eval.json_schema={outside}"])


def test_the_key_without_the_metric_has_no_effect(project: Project) -> None:
    found = judged(context(project, ASKED[1]), 18)
    assert found.outcome == "refuted"
    assert found.evidence == (
        "without effect beside eval.metrics=[exact_match, accuracy, f1_macro, perplexity]:"
        " json_schema_valid alone reads it"
    )
    assert judged(context(project, *ASKED), 18).outcome == "proved"
    assert judged(context(project, *ASKED), 1).outcome == "proved", "every key reaches a stage"


def test_a_file_that_is_no_schema_ends_a_plan(project: Project) -> None:
    known = context(project, *ASKED)
    found = judged(known, 36)
    assert found.outcome == "proved"
    assert found.evidence.startswith("schemas/answer.json: JSON Schema of draft 2020-12, ")
    write(project.root / "schemas" / "remote.json", {"$ref": "https://e.example/a.json"})
    known = context(project, ASKED[0], "++eval.json_schema=schemas/remote.json")
    found = judged(known, 36)
    assert (found.outcome, found.code) == ("refuted", None)
    assert "nothing is fetched" in found.evidence
    assert found.where.endswith(": eval.json_schema")
    assert judged(context(project), 36).evidence == "answers are held against no schema"


def test_a_policy_says_where_the_schema_may_lie(project: Project) -> None:
    known = context(project, *ASKED)
    found = judged(known, 30, policy=Policy(data_roots=("data",)))
    assert (found.outcome, found.code) == ("refuted", None)
    assert found.evidence == "schemas/answer.json: outside the policy's data_roots"
    assert found.where.endswith(": eval.json_schema")
    roots = Policy(data_roots=("data", "schemas"))
    assert judged(known, 30, policy=roots).outcome == "proved"


def test_a_lock_holds_the_schema(project: Project) -> None:
    plan = asked(project)
    found = {each.key: each for each in references(plan)}
    schema = found["file:schemas/answer.json"]
    assert schema.origin == ("eval", "json_schema")
    assert schema.found == f"sha256:{plan.files['schemas/answer.json']}"


def test_a_revision_has_the_schema_that_it_had(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path.resolve() / "project", data=("tiny",)))
    write(project.root / "schemas" / "answer.json", COMMAND)
    (project.recipes / "asks.yaml").write_text(
        "defaults: [tiny, _self_]\neval:\n  json_schema: schemas/answer.json\n"
        "  metrics: [exact_match, json_schema_valid]\n"
    )
    command(project.root, "git", "init", "--quiet")
    commit(project.root, "a schema")
    assert not diff(project, ["asks@HEAD", "asks"]).any
    write(project.root / "schemas" / "answer.json", True)
    found = {stage.name: stage for stage in diff(project, ["asks@HEAD", "asks"]).stages}
    assert [each.sentence() for each in found["score"].reasons] == ["schemas/answer.json changed"]
