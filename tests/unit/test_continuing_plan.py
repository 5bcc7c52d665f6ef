"""Recipes that go on from others: what a plan holds, says and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from slmcompile import api
from slmcompile.console.errors import BadRecipeError, Exit
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.explain.why import explain
from slmcompile.methods.continuing import cannot_continue
from slmcompile.methods.lora import Lora
from slmcompile.plans.definition import Plan, shared_stage
from slmcompile.recipe.policy import Policy
from slmcompile.recipe.project import Project
from slmcompile.report.card import card
from slmcompile.report.markdown import markdown
from slmcompile.report.page import page
from slmcompile.state.changes import changes
from slmcompile.state.emit import generated_files
from slmcompile.state.scratch import work_fingerprint
from tests.pretend import pretend_run
from tests.projects import make_project
from tests.sections import train_section
from tests.unit.checks.judging import context, judged, recipe_file
from tests.unit.test_report import sample

FIRST = "defaults: [tiny, _self_]\ntrain: {num_train_epochs: 1}\n"
MORE = "defaults: [tiny, _self_]\ntrain: {learning_rate: 1e-3, continue_from: first}\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    recipe_file(found, FIRST, "first")
    recipe_file(found, MORE, "more")
    return found


def compiled(project: Project, name: str, *overrides: str) -> Plan:
    return compile_recipe(project, name, list(overrides))


def refused(project: Project, name: str, *overrides: str) -> str:
    with pytest.raises(BadRecipeError) as caught:
        compiled(project, name, *overrides)
    assert caught.value.code == Exit.BAD_RECIPE
    return caught.value.what


# --- the plan -------------------------------------------------------------------------------------


def test_the_earlier_training_is_a_stage_of_its_own_and_the_same_work(project: Project) -> None:
    first, more = compiled(project, "first"), compiled(project, "more")
    theirs = first.stage("train")
    earlier = more.stage("train", "earlier")
    own = more.stage("train")
    assert shared_stage(earlier.pipeline) == "train-earlier"
    assert own.inputs["earlier"] == earlier.out
    assert own.out in dict.fromkeys(s.out for s in more.own.stages)
    # Not only alike: what one of the two has finished the other takes.
    manifests = {role: {"files": {}} for role in theirs.inputs}
    assert earlier.inputs == theirs.inputs
    assert work_fingerprint(earlier.spec(), manifests, {}) == work_fingerprint(
        theirs.spec(), manifests, {}
    )
    assert more.fingerprints()[earlier.address] == first.fingerprints()[theirs.address]
    assert earlier.out in own.deps


def test_base_and_rows_that_both_have_stand_there_once(project: Project) -> None:
    more = compiled(project, "more")
    addresses = [stage.address for stage in more.stages()]
    assert len(addresses) == len(set(addresses))
    assert [stage.kind for stage in more.stages()].count("data") == 1
    other = "  split: {strategy: stratified, by: label, test: 0.2}\n"
    recipe_file(project, f"{FIRST}data:\n{other}", "first")
    apart = compiled(project, "more")
    assert [stage.kind for stage in apart.stages()].count("data") == 2
    assert apart.stage("data").address == more.stage("data").address
    assert judged(context(project, recipe="more"), 1).outcome == "proved"
    assert judged(context(project, recipe="more"), 19).outcome == "proved"
    assert judged(context(project, recipe="more"), 25).outcome == "proved"


def test_what_the_earlier_recipe_says_moves_this_one_and_its_name_does_not(
    project: Project,
) -> None:
    def fingerprint(name: str, address: str) -> str:
        return compiled(project, name).fingerprints()[address]

    before = fingerprint("more", "more/train")
    recipe_file(project, FIRST, "renamed")
    recipe_file(project, MORE.replace("first", "renamed"), "more")
    assert fingerprint("more", "more/train") == before
    recipe_file(project, MORE, "more")
    recipe_file(project, FIRST + "eval: {max_new_tokens: 7}\n", "first")
    assert fingerprint("more", "more/train") == before
    recipe_file(project, FIRST.replace("epochs: 1", "epochs: 2"), "first")
    assert fingerprint("more", "more/train") != before


def test_dvc_compiles_again_when_the_earlier_recipes_file_changes(project: Project) -> None:
    more = compiled(project, "more")
    assert "recipes/first.yaml" in more.own.sources
    files = generated_files(more)
    earlier = more.stage("train", "earlier")
    assert earlier.command in files[f"pipelines/{earlier.pipeline}/dvc.yaml"]
    sync(project, [more])
    # A recipe that is synced beside it leaves the stage there.
    assert sync(project, [compiled(project, "first")], check=True).removed == ()


def test_plan_and_why_name_the_key_of_the_earlier_recipe(project: Project) -> None:
    sync(project, [compiled(project, "more")])
    earlier = compiled(project, "more").stage("train", "earlier")
    assert earlier.recipe_key("learning_rate") == "train.continue_from.train.learning_rate"
    origins = compiled(project, "more").origins
    assert origins["train.continue_from.train.num_train_epochs"] == "recipes/first.yaml:2"
    assert origins["train.learning_rate"] == "recipes/more.yaml:2"
    told = api.plan("more", project=project.root)
    ran = {change.stage.address: change.action for change in told.changes}
    assert ran[earlier.address] == "run"
    assert ran["more/train"] == "run"


@pytest.mark.parametrize(("before", "after"), [
    (None, "first"), ("first", None), ("first", "second"),
])  # fmt: skip
def test_why_names_the_key_that_says_which_recipe_to_go_on_from(
    project: Project, before: str | None, after: str | None
) -> None:
    recipe_file(project, FIRST.replace("epochs: 1", "epochs: 2"), "second")

    def to_go_on_from(name: str | None) -> Plan:
        text = MORE.replace("continue_from: first", f"continue_from: {name}")
        recipe_file(project, text.replace(", continue_from: None", ""), "more")
        return compiled(project, "more")

    pretend_run(project, to_go_on_from(before))
    plan = to_go_on_from(after)
    for stage in (plan.stage("train"), None):
        named = {(c.reason.subject, c.reason.old, c.reason.new): c.undo for c in explain(
            project, plan, stage
        ).causes if c.reason.cause == "key"}  # fmt: skip
        assert list(named) == [("train.continue_from", before, after)]
    told = f"train.continue_from {before or 'null'} → {after or 'null'}"
    (train,) = (c for c in changes(project, plan) if c.stage == plan.stage("train"))
    assert told in [reason.sentence() for reason in train.reasons]


def test_why_does_not_name_it_where_the_earlier_recipe_itself_was_edited(project: Project) -> None:
    pretend_run(project, compiled(project, "more"))
    recipe_file(project, FIRST.replace("epochs: 1", "epochs: 2"), "first")
    plan = compiled(project, "more")
    (cause,) = explain(project, plan, plan.stage("train")).causes
    assert cause.reason.subject == "train.continue_from.train.num_train_epochs"


def test_a_chain_is_followed_to_its_end(project: Project) -> None:
    recipe_file(project, MORE.replace("first", "more"), "last")
    plan = compiled(project, "last")
    train = plan.stage("train")
    middle = next(s for s in plan.stages() if s.address == train.input_stages["earlier"])
    begin = next(s for s in plan.stages() if s.address == middle.input_stages["earlier"])
    assert "earlier" not in begin.inputs
    assert begin.config["num_train_epochs"] == 1.0
    order = [stage.address for stage in plan.stages()]
    assert order.index(begin.address) < order.index(middle.address) < order.index(train.address)


# --- what is refused ------------------------------------------------------------------------------


def test_recipes_that_go_round_are_refused(project: Project) -> None:
    recipe_file(project, FIRST.replace("{", "{continue_from: more, "), "first")
    assert "in a circle: more → first → more" in refused(project, "more")
    assert "in a circle: more → more" in refused(project, "more", "train.continue_from=more")


def test_a_recipe_that_there_is_not_is_named_with_the_nearest(project: Project) -> None:
    with pytest.raises(BadRecipeError) as caught:
        compiled(project, "more", "train.continue_from=frist")
    assert caught.value.what.endswith("train.continue_from: no recipe is called 'frist'")
    assert "'first'" in caught.value.mend


@pytest.mark.parametrize(("override", "reason"), [
    ("train.lora.r=4", "its train.lora.r is 16, and here it is 4"),
    ("train.lora.use_dora=true", "its train.lora.use_dora is false, and here it is true"),
    (
        "train.lora.rank_pattern={q_proj: 4}",
        'its train.lora.rank_pattern is {}, and here it is {"q_proj": 4}',
    ),
    ("train.lora.lora_alpha=1", "its train.lora.lora_alpha is 32"),
    ("train=full", "it trains an adapter, LoRA, and this is all weights"),
    ("model.source.seed=7", "it has another base model"),
])  # fmt: skip
def test_what_cannot_go_on_is_refused_with_the_reason(
    project: Project, override: str, reason: str
) -> None:
    given = (override, "+train.continue_from=first") if override == "train=full" else (override,)
    name = "tiny" if override == "train=full" else "more"
    told = refused(project, name, *given)
    assert "train.continue_from: cannot go on from first: " in told
    assert reason in told


def test_adapters_of_one_recipe_begin_from_nothing(project: Project) -> None:
    adapter = {"data": {}, "train": {"continue_from": "first"}}
    data = project.root / "conf/data/tiny-commands.yaml"
    adapter["data"] = yaml.safe_load(data.read_text(encoding="utf-8"))
    values = {
        "defaults": [{"model": "tiny-llama"}, {"train": "tiny"}, {"target": ["cpu-fp32"]}],
        "adapters": {"a": adapter},
    }
    recipe_file(project, json.dumps(values), "group")
    assert "adapters of one recipe begin from nothing" in refused(project, "group")
    del adapter["train"]
    recipe_file(project, json.dumps(values), "group")
    told = refused(project, "more", "train.continue_from=group")
    assert "more needs a recipe of one adapter, and group has several" in told


def test_what_the_earlier_recipe_fetches_is_held_against_the_policy_too(project: Project) -> None:
    defaults = "defaults: [{model: tiny-llama}, {data: hub}, {train: tiny},"
    defaults += " {eval: text}, {target: [cpu-fp32]}]\n"
    told = (project.conf / "data/tiny-commands.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(told)
    rows["source"] = {
        "type": "hub",
        "repo_id": "stranger/rows",
        "revision": "a" * 40,
        "splits": {"train": "train"},
    }
    hub = project.conf / "data/hub.yaml"
    hub.write_text(json.dumps(rows), encoding="utf-8")
    recipe_file(project, defaults, "first")
    known = context(project, recipe="more")
    assert judged(known, 30).outcome == "proved"
    found = judged(known, 30, policy=Policy(hub_organisations=("acme",)))
    assert found.evidence.startswith("stranger/rows: its owner is none of the policy's")
    assert "train.continue_from.data.source.repo_id" in found.where
    rows["source"]["revision"] = "main"
    hub.write_text(json.dumps(rows), encoding="utf-8")
    assert "its data is of no commit" in refused(project, "more")


def test_which_methods_go_on_from_which() -> None:
    lora, other = train_section(lora=Lora(r=8)), train_section(lora=Lora(r=8, lora_dropout=0.3))
    qlora = train_section(method="qlora", lora=Lora(r=8))
    full = train_section(method="full")
    pissa = train_section(lora=Lora(r=8, init_lora_weights="pissa"))
    assert "twice its rank" in cannot_continue(pissa, pissa)
    for train in (lora, other, qlora):
        for earlier in (lora, other, qlora):
            assert cannot_continue(train, earlier) == ""
        assert cannot_continue(train, full).startswith("it trains a whole model")
        assert cannot_continue(full, train).startswith("it trains an adapter")
    assert cannot_continue(full, train_section(method="full", precision="bf16")) == ""


# --- the report -----------------------------------------------------------------------------------


def test_report_and_card_say_what_training_went_on_from() -> None:
    plain, work = sample(), "ab" * 32
    train = {"method": "lora", "lora": {"r": 8}, "continue_from": "first"}
    facts = replace(plain, recipe={**plain.recipe, "train": train}, continued_from=work)
    (export,) = facts.of_kind("export")
    for text in (page(facts), markdown(facts), card(facts, export)):
        assert "fine-tuned with LoRA (rank 8), going on from first, on" in text
    assert f"<code>{work}</code>" in page(facts)
    assert work in card(facts, export)
    assert "went on from" not in page(plain) + card(plain, export)
