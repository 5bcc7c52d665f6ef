"""What a plan holds, says and refuses of early stopping and of the metric that decides."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slmcompile import api
from slmcompile.checks.rules.no_effect import PAIRS
from slmcompile.console.errors import BadRecipeError
from slmcompile.data.report_facts import DataFacts
from slmcompile.estimate.earlier_runs import Work, seconds_of
from slmcompile.estimate.peak import predict
from slmcompile.estimate.time import cost_line
from slmcompile.execution.sync import compile_recipe
from slmcompile.plans.answered_validation import SECTION
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.report.findings import all_findings, early_stop_sentence
from slmcompile.report.markdown import markdown
from slmcompile.report.page import page
from slmcompile.shapes.interval import Interval
from slmcompile.state.scratch import member_fingerprint
from tests.projects import make_project
from tests.unit.checks.judging import context, judged, make
from tests.unit.test_report import sample

BY_ANSWERS = "train.metric_for_best_model=exact_match"
PATIENT = "train.early_stopping_patience=3"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("project"))


def kinds_moved(project: Project, before: tuple[str, ...], *more: str) -> set[str]:
    first, then = (
        compile_recipe(project, "tiny", given).fingerprints() for given in (before, before + more)
    )
    return {address.rpartition("/")[2] for address in then if then[address] != first.get(address)}


# --- the spec -------------------------------------------------------------------------------------


def test_a_recipe_that_asks_for_nothing_has_the_spec_that_it_had(project: Project) -> None:
    for recipe in ("tiny", "quickstart"):
        plan = compile_recipe(project, recipe, [])
        spec = plan.stage("train").spec_text()
        for word in ("metric_for_best", "early_stop", "eval_limit", SECTION + '":'):
            assert word not in spec
        said = ["train.metric_for_best_model=loss", "train.early_stopping_threshold=0.0"]
        assert compile_recipe(project, recipe, said).stage("train").spec_text() == spec


def test_what_decides_the_best_weights_retrains_and_what_answers_does_too(project: Project) -> None:
    behind = {"train", "answer-torch", "export-cpu-fp32", "answer-cpu-fp32", "score"}
    assert behind <= kinds_moved(project, (), PATIENT)
    assert behind <= kinds_moved(project, (), BY_ANSWERS)
    longer = "eval.max_new_tokens=9"
    assert "train" not in kinds_moved(project, (), longer)
    assert "train" in kinds_moved(project, (BY_ANSWERS,), longer)
    # Not what is measured of the test split alone.
    for other in ("eval.limit=5", "eval.metrics=[accuracy]", "eval.base_model=false"):
        assert "train" not in kinds_moved(project, (BY_ANSWERS,), other)


def test_each_part_of_the_spec_says_which_key_of_the_recipe_it_is(project: Project) -> None:
    train = compile_recipe(project, "tiny", [BY_ANSWERS]).stage("train")
    assert train.config["metric_for_best_model"] == "exact_match"
    assert train.recipe_key("metric_for_best_model") == "train.metric_for_best_model"
    assert {key: train.recipe_key(f"{SECTION}.{key}") for key in train.config[SECTION]} == {
        "task": "data.task",
        "label": "data.label",
        "label_steps": "data.normalize_labels",
        "labelled": "data.label",
        "seed": "data.seed",
        "max_new_tokens": "eval.max_new_tokens",
        "batch_size": "eval.batch_size",
    }


def test_a_metrics_packages_and_files_are_those_of_training_too(project: Project) -> None:
    lacks = ["train.metric_for_best_model=json_schema_valid"]
    with pytest.raises(BadRecipeError, match=r"json_schema_valid needs eval\.json_schema") as said:
        compile_recipe(project, "tiny", lacks)
    assert "override 'train.metric_for_best_model=json_schema_valid'" in said.value.what
    schema = project.root / "schemas/answer.json"
    schema.parent.mkdir(exist_ok=True)
    schema.write_text('{"type": "string"}', encoding="utf-8")
    given = [*lacks, "eval.json_schema=schemas/answer.json"]
    plan = compile_recipe(project, "tiny", given)
    train = plan.stage("train")
    assert train.files == ("schemas/answer.json",)
    assert "jsonschema" in train.packages
    # And it is what is in the file that counts, not where it lies.
    other = project.root / "schemas/same.json"
    other.write_bytes(schema.read_bytes())
    moved = compile_recipe(project, "tiny", [*lacks, "eval.json_schema=schemas/same.json"])
    assert moved.fingerprints()["tiny/train"] == plan.fingerprints()["tiny/train"]
    schema.write_text('{"type": "object"}', encoding="utf-8")
    edited = compile_recipe(project, "tiny", given)
    assert edited.fingerprints()["tiny/train"] != plan.fingerprints()["tiny/train"]


def group(project: Project, **adapters: dict[str, Any]) -> Plan:
    """A recipe of adapters over the tiny data, each with keys of its own."""
    data = yaml.safe_load((project.root / "conf/data/tiny-commands.yaml").read_text("utf-8"))
    values = {
        "defaults": [{"model": "tiny-llama"}, {"train": "tiny"}, {"target": ["cpu-fp32"]}],
        "adapters": {name: {"data": data, **given} for name, given in adapters.items()},
    }
    # JSON is YAML, without anchors.
    (project.recipes / "group.yaml").write_text(json.dumps(values), encoding="utf-8")
    return compile_recipe(project, "group", [])


def test_of_adapters_each_has_its_own_and_only_that_in_its_identity(project: Project) -> None:
    by_schema = {"metric_for_best_model": "json_schema_valid"}
    schema = project.root / "schemas/group.json"
    schema.parent.mkdir(exist_ok=True)
    schema.write_text('{"type": "string"}', encoding="utf-8")
    eval_ = {"json_schema": "schemas/group.json", "metrics": ["exact_match"]}
    plan = group(
        project,
        plain={"train": {"learning_rate": 1e-3}},
        schema={"train": by_schema, "eval": eval_},
    )
    train = plan.stage("train")
    members = train.config["members"]
    assert SECTION not in members["plain"]
    assert train.recipe_key(f"members.schema.{SECTION}.max_new_tokens") == (
        "adapters.schema.eval.max_new_tokens"
    )
    manifests = {"base": {"files": {}}, "data": {"files": {}}}
    names = ("plain", "schema")
    first = {n: member_fingerprint(train.spec(), n, manifests, plan.files) for n in names}
    other = dict.fromkeys(plan.files, "0" * 64)
    then = {n: member_fingerprint(train.spec(), n, manifests, other) for n in names}
    assert first["plain"] == then["plain"]
    assert first["schema"] != then["schema"]
    # The schema's file is read by its training, and the rows by both data stages.
    edited = dict(plan.files) | {"schemas/group.json": "0" * 64}
    before = plan.fingerprints()
    after = dataclasses.replace(plan, files=edited).fingerprints()
    moved = {address.rpartition("/")[2] for address in after if after[address] != before[address]}
    assert {"train", "answer-torch--schema", "export-cpu-fp32--schema"} <= moved
    assert not {name for name in moved if name.endswith("--plain")}


# --- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    ("train.early_stopping_threshold=0.1", PATIENT),
    ("train.eval_limit=5", BY_ANSWERS),
    ("train.metric_for_best_model=accuracy", "train.load_best_model_at_end=false", PATIENT),
])  # fmt: skip
def test_an_option_beside_what_it_is_for_has_its_effect(
    project: Project, options: tuple[str, ...]
) -> None:
    """That each is refuted alone is in the table's own tests."""
    assert judged(context(project, *options), 18).outcome == "proved"


def test_a_seed_that_picks_the_answered_rows_has_its_effect(project: Project) -> None:
    splits = [
        "data.source.path=null",
        "data.source.files={train: data/tiny/commands.jsonl, test: data/tiny/commands.jsonl,"
        " validation: data/tiny/commands.jsonl}",
        "data.seed=3",
    ]
    assert judged(context(project, *splits), 18).where.endswith(": data.seed")
    assert judged(context(project, *splits, BY_ANSWERS, "train.eval_limit=5"), 18).outcome == (
        "proved"
    )


def test_a_schema_that_only_validations_are_held_against_has_an_effect(project: Project) -> None:
    (pair,) = [pair for pair in PAIRS if pair.option == "eval.json_schema"]
    recipe = context(project).recipe
    unread = recipe.model_copy(
        update={"eval": recipe.eval.model_copy(update={"json_schema": "a.json"})}
    )
    assert pair.when(unread)
    train = unread.train.model_copy(update={"metric_for_best_model": "json_schema_valid"})
    assert not pair.when(unread.model_copy(update={"train": train}))


def test_patience_that_can_never_be_used_up_is_a_warning(project: Project) -> None:
    asked = ("train.eval_steps=5", PATIENT)
    assert judged(context(project), 40).evidence == "no early stopping"
    found = judged(context(project, *asked, "train.max_steps=20"), 40)
    assert found.outcome == "refuted"
    assert found.evidence.startswith("3 validations before the last of 20 steps")
    assert found.where.endswith(": train.early_stopping_patience")
    assert judged(context(project, *asked, "train.max_steps=21"), 40).outcome == "proved"
    unknown = judged(context(project, *asked), 40)
    assert (unknown.outcome, unknown.stage) == ("needs_probe", context(project).data_stage)
    # Eight rows a batch, five epochs.
    for rows, outcome in ((32, "refuted"), (40, "proved")):
        data = DataFacts({"counts": {"train": rows}})
        assert judged(context(project, *asked), 40, data=data).outcome == outcome


def test_what_is_kept_and_why_it_stops_is_told_with_its_direction(project: Project) -> None:
    told = {
        (): "the model kept is that of the lowest validation loss",
        (BY_ANSWERS,): "that of the highest exact match",
        ("train.metric_for_best_model=perplexity", PATIENT): "it stops early by the lowest perplex",
        ("train.load_best_model_at_end=false", PATIENT): "kept is the last, and it stops early by",
    }
    for overrides, words in told.items():
        found = judged(context(project, *overrides), 21)
        assert found.outcome == "proved"
        assert words in found.evidence
    plain = context(project)
    lacking = plain.recipe.train.model_copy(update={"metric_for_best_model": "accuracy"})
    found = judged(plain, 21, recipe=plain.recipe.model_copy(update={"train": lacking}))
    assert found.evidence.startswith("training does not measure accuracy")


# --- the cost -------------------------------------------------------------------------------------


def test_a_run_that_may_stop_early_costs_at_most_so_much(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    first = api.plan("tiny", project=project.root)
    names = [change.stage.address for change in first.changes if change.stage.kind != "train"]
    entries: list[dict[str, Any]] = [{"stage": name, "seconds": 1.0} for name in names]
    entries.append({"stage": "tiny/train", "seconds": 80.0})
    project.scratch.mkdir(exist_ok=True)
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (project.scratch / "journal.jsonl").write_text(lines, encoding="utf-8")
    plain = api.plan("tiny", ["train.max_steps=40"], project=project.root)
    patient = api.plan("tiny", ["train.max_steps=40", PATIENT], project=project.root)
    assert cost_line(plain.cost).startswith("Cost: ≈ ")
    assert "; 40 steps; " in cost_line(plain.cost)
    assert cost_line(patient.cost).startswith("Cost: at most ")
    assert "; at most 40 steps; " in cost_line(patient.cost)
    assert [each.cost.to_json()["at_most"] for each in (plain, patient)] == [False, True]


def test_time_of_a_run_that_answers_is_told_by_runs_that_answered(project: Project) -> None:
    train = compile_recipe(project, "tiny", []).stage("train")
    size = {"total_parameters": 107, "trainable_parameters": 7}
    plain = {"seconds": 10.0, "tokens": 100, **size}
    answering = {"seconds": 50.0, "tokens": 100, "answers": 20, **size}
    entries = {"tiny/train": [plain, answering]}

    def seconds(**work: int) -> Interval | None:
        return seconds_of(entries, train, Work(parameters=100, full=False, **work))

    assert seconds(tokens=200) == Interval(10.0, 20.0)
    assert seconds(tokens=200, answers=20) == Interval(50.0, 100.0)
    assert seconds(tokens=200, answers=80) == Interval(50.0, 200.0)
    assert seconds(tokens=100, answers=10) == Interval(25.0, 50.0)
    only = {"tiny/train": [plain]}
    assert seconds_of(only, train, Work(100, 100, full=False, answers=5)) is None


def test_answers_at_validations_are_in_the_predicted_memory(project: Project) -> None:
    def most(*overrides: str) -> float:
        known = predict(context(project, "train.per_device_train_batch_size=1", *overrides))
        assert known is not None
        return known.training.high

    many = ("eval.batch_size=32", "eval.max_new_tokens=8000")
    assert most(*many) == most()
    assert most(BY_ANSWERS, *many) > most(BY_ANSWERS) >= most()
    assert most("train.metric_for_best_model=perplexity", *many) < most(BY_ANSWERS, *many)


# --- the report -----------------------------------------------------------------------------------


def test_a_report_says_when_and_why_training_stopped_early() -> None:
    plain = sample()
    training = dict(plain.training) | {
        "best_step": 4, "best_eval_loss": 0.5,
        "early_stopping": {"patience": 3, "threshold": 0.0, "planned_steps": 60, "stopped": True},
    }  # fmt: skip
    facts = dataclasses.replace(plain, training=training)
    sentence = (
        "Training stopped early, at step 10 of 60: 3 validations in a row did not improve"
        " validation loss; the best is 0.5, of step 4."
    )
    assert early_stop_sentence(training) == sentence
    assert sentence in all_findings(facts)
    assert sentence in page(facts)
    assert "stopped early, at step 10 of 60" in markdown(facts)
    assert "stopped early" not in page(plain)
    curve = [point | {"eval_metric": 0.1 * point["step"]} for point in training["curve"]]
    by_metric = training | {
        "metric_for_best_model": "f1_macro", "best_metric": 0.4, "curve": curve,
    }  # fmt: skip
    by_metric["early_stopping"] = training["early_stopping"] | {"threshold": 0.01, "patience": 1}
    assert early_stop_sentence(by_metric) == (
        "Training stopped early, at step 10 of 60: 1 validation in a row did not improve macro F1"
        " by more than 0.01; the best is 0.4, of step 4."
    )
    assert "F1 (macro) over the validation split" in page(
        dataclasses.replace(plain, training=by_metric)
    )
    ended = training | {"early_stopping": training["early_stopping"] | {"stopped": False}}
    assert early_stop_sentence(ended) is None
