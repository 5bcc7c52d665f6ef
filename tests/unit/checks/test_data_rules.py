"""The rules over tokens, rows and splits: each passes good facts and refutes what it is for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slmcompile.base.facts import ModelFacts
from slmcompile.console.errors import Exit
from slmcompile.data.report_facts import DataFacts, OneLabel, SameIds, Stratum, Writing
from slmcompile.facts.context import CheckContext
from tests.projects import make_project, slmcompile
from tests.unit.checks.data_contexts import MODEL, data_facts, finding, planned, verdict

OURS = (2, 3, 4, 5, 6, 14, 15, 16, 17, 22, 27, 34, 35, 37)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))


def context(project: Path, *overrides: str, **spoilt: Any) -> CheckContext:
    return planned(project, *overrides, data=data_facts(**spoilt), model=MODEL)


@pytest.mark.parametrize("number", OURS)
def test_good_rows_pass(project: Path, number: int) -> None:
    found = verdict(number, context(project))
    assert found.outcome == "proved", found.evidence


def test_plan_finds_a_control_token_by_the_kind_of_error_and_not_by_its_words(
    tmp_path: Path,
) -> None:
    """A column's name is quoted by another error, which another rule is for."""
    project = make_project(tmp_path.resolve() / "project", data=("tiny",))
    (tmp_path / "model").mkdir()
    token = {"content": "<|end|>", "special": True}
    model = replace(
        MODEL, folder=tmp_path / "model", tokenizer={"added_tokens_decoder": {"0": token}}
    )
    rows = project / "data/rows.jsonl"
    rows.write_text(json.dumps({"text": "say <|end|>", "label": "on"}), encoding="utf-8")
    source = "data.source.path=data/rows.jsonl"
    found = verdict(35, planned(project, source, model=model))
    assert found.evidence == "data/rows.jsonl:1: column 'text' spells the control token <|end|>"
    renamed = "data.columns={text: 'spells the control token'}"
    found = verdict(35, planned(project, source, renamed, model=model))
    assert found.outcome == "needs_probe"


STEPS = "data.steps=[{type: keep, column: label, values: [on, offf]}]"


def test_a_value_that_no_row_has_is_a_warning_with_its_step(project: Path) -> None:
    done = {"words": "keep label", "read": 480, "left": 120, "facts": {"on": 120, "offf": 0}}
    facts = data_facts({"steps": [done]})
    found = finding(37, planned(project, STEPS, data=facts, model=MODEL))
    assert found.verdict.evidence == (
        "keep label: 120 of 480 rows are left; counted on: 120, offf: 0: no row has offf"
    )
    assert found.verdict.where == f"override {STEPS!r}: data.steps.0"
    assert not found.blocks
    good = data_facts({"steps": [done | {"facts": {"on": 120, "offf": 1}}]})
    assert verdict(37, planned(project, STEPS, data=good, model=MODEL)).outcome == "proved"
    assert verdict(37, planned(project, STEPS)).outcome == "needs_probe"


NO_LEAK = {"validation_in_train": 0, "test_in_train": 0, "test_in_validation": 0}
ONES = (Writing('"1"', 9, "a.jsonl:1"), Writing('"1.0"', 2, "a.jsonl:7"))
CASES = (Writing('"On"', 9, "a.jsonl:1"), Writing('"on"', 2, "a.jsonl:7"))
LONG_ANSWER = {"longest_tested": ((1, 1), (40, 9))}

SPOILT: list[tuple[int, dict[str, Any], str]] = [
    (2, {"least_trained": 0, "least_trained_at": "rows.jsonl:7"}, "rows.jsonl:7: no token"),
    (3, {"mask_differs": 4, "mask_differs_at": "rows.jsonl:3: 'x' is trained"}, "4 of 480"),
    (4, {"stop_trained": 470}, "<|im_end|> (2) is trained in 470 of 480"),
    (4, {"stop_trained": 0, "pad_id": 2}, "the padding token too"),
    (4, {"report": {"stop": {"id": 3, "text": "<end_of_turn>"}}}, "generation stops at [2]"),
    (5, {"same_ids": SameIds(64, 64, "a", "b", "a", "row 1: prompt.json gives")}, "prompt.json"),
    (14, {"leaks_normalised": NO_LEAK | {"test_in_train": 2}},
     "2 of 72 test prompts stand in train (0 to the letter"),
    (14, {"leaks_normalised": NO_LEAK | {"validation_in_train": 1}},
     "1 of 72 validation prompts"),
    (14, {"leaks_normalised": NO_LEAK | {"test_in_validation": 72}},
     "72 of 72 test prompts stand in validation"),
    (15, {"report": {"lengths": {"total": {"max": 257}}}}, "257 tokens, the model's context 256"),
    (15, {"labels_lost": ("down",)}, "every row of the label 'down'"),
    (15, {"report": {"dropped": {"too_long": {"count": 100}}}}, "100 of 480 rows (21%)"),
    (15, LONG_ANSWER, "test rows measured has 9 tokens, generation ends after 8"),
    (16, {"doubled": {"BOS": 480, "EOS": 0}, "doubled_at": "row 1"}, "480 of 480 rows hold BOS"),
    (16, {"doubled": {"BOS": 0, "EOS": 3}, "doubled_at": "rows.jsonl:8"}, "3 of 480 rows hold EOS"),
    (22, {"strata": Stratum("rare", 2, 3)}, "'rare' has 2 different prompts for 3 splits"),
    (22, {"never_trained": {"left": 4, "right": 1}}, "'left' (4 rows of validation and test)"),
    (27, {"given_away": 470}, "470 of 480 prompts hold their whole answer"),
    (27, {"report": {"contradicting": {"count": 2, "listed": [{"where": ["a:1", "a:9"]}]}}},
     "2 prompts are answered in more than one way, first a:1 and a:9"),
    (27, {"several_writings": (OneLabel(CASES, False, ("case",)),)},
     'written in several ways: "On" (9 rows, first a.jsonl:1), "on" (2 rows, first a.jsonl:7)'),
    (34, {"several_writings": (OneLabel(ONES, True, ("number",)),)},
     'written in several ways: "1" (9 rows, first a.jsonl:1), "1.0" (2 rows, first a.jsonl:7)'),
]  # fmt: skip


@pytest.mark.parametrize(("number", "spoilt", "says"), SPOILT)
def test_spoilt_rows_are_refuted(
    project: Path, number: int, spoilt: dict[str, Any], says: str
) -> None:
    found = finding(number, context(project, **spoilt))
    assert found.verdict.outcome == "refuted"
    assert says in found.verdict.evidence
    assert found.verdict.mend
    assert found.verdict.where
    if number == 27:
        assert not found.blocks
    else:
        wanted = Exit.BAD_RECIPE if "generation ends" in says else Exit.BAD_DATA
        assert (found.blocks, found.code) == (True, wanted)


def test_the_stop_token_that_the_base_stage_will_add_is_not_missed(project: Path) -> None:
    folder = replace(MODEL, generation={}, tokenizer={"eos_token": "<|im_end|>"})
    known: dict[str, Any] = {"data": data_facts()}
    assert verdict(4, planned(project, model=folder, **known)).outcome == "proved"
    base = planned(project).plan
    assert base is not None
    fetched = replace(folder, where=base.shared[0].stages[0].out)
    assert verdict(4, planned(project, model=fetched, **known)).outcome == "refuted"


def test_a_leak_of_a_row_in_a_hundred_is_no_refutation(project: Path) -> None:
    rows = {"train": 800, "validation": 100, "test": 100}
    leaks = {"validation_in_train": 1, "test_in_train": 1, "test_in_validation": 1}
    found = verdict(14, context(project, report={"counts": rows}, leaks_normalised=leaks))
    assert (found.outcome, found.evidence.split()[0]) == ("proved", "3")


def test_the_context_of_a_model_that_also_sees_is_in_its_text_config(project: Path) -> None:
    sees = {"model_type": "gemma3", "text_config": {"max_position_embeddings": 8}}
    known = context(project)
    found = verdict(15, replace(known, model=replace(MODEL, config=sees)))
    assert found.outcome == "refuted"
    assert "10 tokens, the model's context 8" in found.evidence
    unknown = verdict(15, replace(known, model=None))
    assert (unknown.outcome, unknown.stage) == ("needs_probe", known.base_stage)


def test_long_answers_matter_only_where_they_are_measured_and_compared(project: Path) -> None:
    for override in ("eval.metrics=[perplexity]", "eval.limit=39", "eval.max_new_tokens=9"):
        assert verdict(15, context(project, override, **LONG_ANSWER)).outcome == "proved", override
    assert (
        "answer measured 1 of 8"
        in verdict(15, context(project, "eval.limit=39", **LONG_ANSWER)).evidence
    )


@pytest.mark.parametrize("metric", ["exact_match", "accuracy", "f1_macro"])
def test_a_limit_on_rows_does_not_switch_the_rule_over_long_answers_off(
    project: Path, metric: str
) -> None:
    found = verdict(
        15, context(project, "eval.limit=40", f"eval.metrics=[{metric}]", **LONG_ANSWER)
    )
    assert found.outcome == "refuted"
    assert "the longest answer of the 40 test rows measured has 9 tokens" in found.evidence
    assert found.mend == "set eval.max_new_tokens=9"


def test_a_prompt_that_holds_the_answers_column_is_warned_of_by_plan(project: Path) -> None:
    found = finding(27, planned(project, "data.template.prompt='{text} {label} = '"))
    assert (found.verdict.outcome, found.blocks) == ("refuted", False)
    assert found.verdict.where.endswith("data.template")


@pytest.mark.parametrize("number", OURS)
def test_before_the_rows_are_there_a_stage_is_named(project: Path, number: int) -> None:
    bare = planned(project)
    found = verdict(number, bare)
    if number in {17, 37}:
        assert found.outcome == "proved"  # a text template has no roles, the recipe no steps
    else:
        assert (found.outcome, found.stage) == ("needs_probe", bare.data_stage)


def test_a_deep_plan_without_a_tokenizer_names_the_base_stage(project: Path) -> None:
    bare = planned(project, deep="")
    assert verdict(16, bare).stage == bare.base_stage
    fetched = planned(project, deep="rows on a hub", model=MODEL)
    assert verdict(16, fetched).stage == fetched.data_stage
    assert "rows on a hub" in verdict(16, fetched).evidence


def chat_project(folder: Path, rows: list[Any], template: str) -> Path:
    make_project(folder, data=("tiny",))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / "talk.jsonl").write_text(lines, encoding="utf-8")
    (folder / "recipes" / "talk.yaml").write_text(
        "defaults: [model: tiny-llama, train: tiny, eval: text, target: [cpu-fp32], _self_]\n"
        "data:\n  name: talk\n  task: generation\n"
        "  source: {type: file, path: data/talk.jsonl}\n"
        f"  template: {template}\n",
        encoding="utf-8",
    )
    return folder


def talk(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": role} for role in roles]}


def test_roles_that_were_rendered_pass_and_others_do_not(tmp_path: Path) -> None:
    folder = chat_project(tmp_path.resolve(), [talk("user", "assistant")], "{type: messages}")
    roles = {"user assistant": 400, "system user assistant": 80}
    known: dict[str, Any] = {"recipe": "talk", "model": MODEL}
    found = verdict(17, planned(folder, data=data_facts(roles=roles), **known))
    assert found.outcome == "proved"
    assert "user assistant (400)" in found.evidence
    found = verdict(17, planned(folder, data=data_facts(roles={"user assistant": 479}), **known))
    assert (found.outcome, found.evidence.split(" ", 1)[0]) == ("refuted", "1")


def test_a_model_without_a_chat_template_is_refuted_before_it_runs(tmp_path: Path) -> None:
    folder = chat_project(tmp_path.resolve(), [talk("user", "assistant")], "{type: messages}")
    plain = ModelFacts("models/plain", {}, {}, {}, {}, {}, ("tokenizer.json",))
    found = finding(17, planned(folder, recipe="talk", model=plain))
    assert (found.verdict.outcome, found.code) == ("refuted", Exit.BAD_RECIPE)
    for has in (
        ModelFacts("m", {}, {}, {"chat_template": "x"}, {}, {}, ()),
        ModelFacts("m", {}, {}, {}, {}, {}, ("chat_template.jinja",)),
    ):
        assert verdict(17, planned(folder, recipe="talk", model=has)).outcome == "needs_probe"


@pytest.mark.parametrize(
    ("rows", "template", "key", "says"),
    [
        ([{"q": "a", "answer": "b"}], "{type: text, prompt: '{qs}', completion: '{answer}'}",
         "data.template.prompt", "data/talk.jsonl:1: no column 'qs'"),
        ([{"q": "a", "answer": "b"}, {"q": "a", "answer": None}],
         "{type: chat, user: '{q}', assistant: '{answer}'}",
         "data.template.assistant", "data/talk.jsonl:2: column 'answer' is null"),
        ([talk("user", "assistant"), talk("user")], "{type: messages}",
         "data.template.column", "data/talk.jsonl:2: column 'messages': the last message"),
        ([{"q": "a", "answer": "b"}], "{type: text, prompt: '{q.x}', completion: '{answer}'}",
         "data.template.prompt", "reaches into a value"),
        ([["a"]], "{type: messages}", "data.source", "data/talk.jsonl:1: the row is list"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_refuted_by_plan(
    tmp_path: Path, rows: list[Any], template: str, key: str, says: str
) -> None:
    folder = chat_project(tmp_path.resolve(), rows, template)
    found = verdict(6, planned(folder, recipe="talk"))
    assert found.outcome == "refuted"
    assert says in found.evidence
    assert found.where.startswith("recipes/talk.yaml:")
    assert found.where.endswith(f": {key}")


def test_a_long_array_in_one_line_is_looked_at_by_plan(tmp_path: Path) -> None:
    template = "{type: text, prompt: '{qs}', completion: '{answer}'}"
    folder = chat_project(tmp_path.resolve(), [], template)
    rows = [{"q": f"question {number}", "answer": "b"} for number in range(5000)]
    (folder / "data" / "talk.json").write_text(json.dumps(rows), encoding="utf-8")
    found = verdict(6, planned(folder, "data.source.path=data/talk.json", recipe="talk"))
    assert found.outcome == "refuted"
    assert "data/talk.json:1 (element 0): no column 'qs'" in found.evidence


def test_the_column_to_split_by_is_wanted_only_where_rows_are_split(tmp_path: Path) -> None:
    row = {"q": "a", "answer": "b"}
    template = "{type: text, prompt: '{q}', completion: '{answer}'}"
    folder = chat_project(tmp_path.resolve(), [row | {"g": 1}], template)
    (folder / "data" / "rest.jsonl").write_text(json.dumps(row), encoding="utf-8")
    split = "data.split={strategy: group, by: g}"
    for train, validation, outcome in (
        ("talk", "rest", "needs_probe"),
        ("rest", "talk", "refuted"),
    ):
        files = f"{{validation: data/{validation}.jsonl, train: data/{train}.jsonl}}"
        source = f"data.source={{type: file, path: null, files: {files}}}"
        found = verdict(6, planned(folder, source, split, recipe="talk"))
        assert found.outcome == outcome
        assert ("data/rest.jsonl:1: no column 'g'" in found.evidence) == (outcome == "refuted")


def test_a_renaming_to_no_column_is_blamed_and_not_the_template(project: Path) -> None:
    found = verdict(6, planned(project, "data.columns={text: utterance}"))
    assert found.where == "override 'data.columns={text: utterance}': data.columns.text"
    found = verdict(6, planned(project, "data.template.prompt='{text'"))
    assert found.where.endswith(": data.template.prompt")
    assert found.evidence == "a brace without its partner"


@pytest.mark.parametrize(
    ("completion", "label", "what", "mend"),
    [
        ('{{"intent": "{label}"}}', "intnt", "'intnt' is no key of the answer", "mean 'intent'?"),
        ("{label}", "intent", "the answer is no JSON object", "take data.label out"),
        ('{{"intent": null}}', "intent", "'intent' is null", ""),
    ],
)
def test_a_label_that_the_answers_do_not_have_is_found_by_plan(
    project: Path, completion: str, label: str, what: str, mend: str
) -> None:
    edits = [f"data.template.completion='{completion}'", f"data.label={label}"]
    found = verdict(6, planned(project, *edits))
    assert found.outcome == "refuted"
    assert found.evidence == f"data/tiny/commands.jsonl:1: {what}"
    assert mend in found.mend
    assert found.where.endswith(": data.label")
    right = verdict(6, planned(project, edits[0].replace("null", "1"), "data.label=intent"))
    assert (right.outcome == "refuted") == (completion == "{label}")


def test_extraction_of_answers_that_are_no_json_is_refused(project: Path) -> None:
    """Every model's valid_json would be 0, the references' too."""
    edits = ["data.task=extraction", "data.label=null", "eval.metrics=[exact_match]"]
    found = verdict(6, planned(project, *edits, "data.template.completion='{label}}}'"))
    assert (found.outcome, found.where) == ("refuted", f"override {edits[0]!r}: data.task")
    assert found.evidence.startswith("data/tiny/commands.jsonl:1: the answer is no JSON")
    found = verdict(6, planned(project, *edits, """data.template.completion='"{label}"'"""))
    assert found.outcome != "refuted"


def test_a_missing_column_ends_plan_with_exit_65_and_its_nearest_name(project: Path) -> None:
    done = slmcompile(project, "plan", "tiny", "data.template.prompt='{txt} = '", check=False)
    assert done.returncode == Exit.BAD_DATA
    assert "no column 'txt'" in done.stderr
    assert "did you mean 'text'?" in done.stderr
    assert "✗ columns: " in done.stdout


def test_token_counts_are_those_of_training(project: Path) -> None:
    data = context(project).data
    assert isinstance(data, DataFacts)
    assert data.longest == 10


def test_the_steps_that_make_one_label_are_named(project: Path) -> None:
    spoilt = (OneLabel(ONES, True, ("number",)), OneLabel(CASES, False, ("case",)))
    found = verdict(34, context(project, several_writings=spoilt))
    assert "one label is written" in found.evidence
    assert "data.normalize_labels=[number]," in found.mend
    declared = context(project, "data.normalize_labels=[case]", several_writings=spoilt)
    assert "data.normalize_labels=[case, number]," in verdict(34, declared).mend


def test_writings_that_are_declared_to_be_labels_pass(project: Path) -> None:
    spoilt = (OneLabel(ONES, True, ("number",)), OneLabel(CASES, False, ("case",)))
    declared = context(project, "data.normalize_labels=[]", several_writings=spoilt)
    assert [verdict(number, declared).outcome for number in (27, 34)] == ["proved"] * 2


@pytest.mark.parametrize(
    ("labels", "overrides", "outcome", "says"),
    [
        ([1, "1", 1.0, True], [], "refuted", '"1" (20 rows, first data/x.jsonl:1), "1.0" (10'),
        (["yes", "yes\n"], [], "refuted", '"yes" (20 rows, first data/x.jsonl:1), "yes\\n" (20'),
        ([1, "1", 1.0, True], ["data.normalize_labels=[number]"], "needs_probe", ""),
        (["Yes", "yes"], [], "needs_probe", ""),
    ],
)
def test_the_first_rows_refute_before_any_stage_runs(
    tmp_path: Path, labels: list[Any], overrides: list[str], outcome: str, says: str
) -> None:
    folder = make_project(tmp_path.resolve(), data=("tiny",))
    rows = [{"text": f"box {n}", "label": labels[n % len(labels)]} for n in range(40)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data/x.jsonl").write_text(lines, encoding="utf-8")
    found = finding(34, planned(folder, "data.source.path=data/x.jsonl", *overrides, data=None))
    assert (found.verdict.outcome, found.blocks) == (outcome, outcome == "refuted")
    assert says in found.verdict.evidence


def test_of_documents_nothing_is_dropped_to_fit_the_context(project: Path) -> None:
    long: dict[str, Any] = {"report": {"lengths": {"total": {"max": 257}}}}
    rows = verdict(15, context(project, **long))
    assert rows.mend == "set data.max_length=256 and data.too_long=drop, or shorten the rows"
    template = (
        "~data.template.prompt",
        "~data.template.completion",
        "data.template={type: completion, text: '{text}'}",
        "data.task=generation",
    )
    documents = verdict(15, context(project, *template, "eval=plain-text", **long))
    assert documents.mend.startswith("set data.max_length=256, where documents become more")
