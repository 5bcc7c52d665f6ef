"""Adapters that other recipes train: one work, refused over other weights, said in the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile import api
from slmcompile.console.errors import (
    BadRecipeError,
    CorruptError,
    Exit,
    SlmcompileError,
    UsageError,
)
from slmcompile.execution.joining import add_adapter
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.explain.shipped import shipped_lines
from slmcompile.files.artifact import write_manifest
from slmcompile.lock.file import write_lock
from slmcompile.plans.default_gates import with_default_gates
from slmcompile.plans.definition import Plan, shared_stage
from slmcompile.recipe.compose import compose
from slmcompile.recipe.members import typed
from slmcompile.recipe.policy import FILE
from slmcompile.recipe.project import Project
from slmcompile.state.reasons import identity_reasons
from tests.projects import make_project
from tests.unit.checks.judging import recipe_file

ONE = """
defaults: [tiny, {override /target: [cpu-int4]}, _self_]
train: {over: cpu-int4, num_train_epochs: 1}
"""
PAIR = """
defaults: [{model: tiny-llama}, {target: [cpu-int4]}, {track: none}]
adapters:
  first: {recipe: one}
  second: {recipe: two}
gates:
  - {adapter: second, metric: exact_match, min: 0.5}
"""
TRAINED = """
defaults: [{model: tiny-llama}, {train: tiny}, {target: [cpu-int4]}, {track: none}, _self_]
train: {over: cpu-int4}
adapters:
  own: {data: DATA, eval: {metrics: [exact_match]}}
  first: {recipe: one}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    recipe_file(found, ONE, "one")
    recipe_file(found, ONE.replace("epochs: 1", "epochs: 2"), "two")
    recipe_file(found, PAIR, "pair")
    return found


def plan(project: Project, recipe: str, *overrides: str) -> Plan:
    return compile_recipe(project, recipe, overrides)


def refused(project: Project, recipe: str, *overrides: str) -> str:
    with pytest.raises(BadRecipeError) as caught:
        plan(project, recipe, *overrides)
    assert caught.value.code == Exit.BAD_RECIPE
    return caught.value.what


def test_each_is_the_training_of_its_own_recipe(project: Project) -> None:
    pair = plan(project, "pair")
    for member, recipe in (("first", "one"), ("second", "two")):
        theirs, here = plan(project, recipe), pair.stage("train", member=member)
        assert shared_stage(here.pipeline) == "train-earlier"
        assert pair.fingerprints()[here.address] == theirs.fingerprints()[f"{recipe}/train"]
        export, view = pair.stage("export", "cpu-int4"), pair.views[member]
        assert export.inputs[f"train--{member}"] == here.out
        # What it answers in torch is its recipe's too, and so is done once.
        answers = view.stage("answer", "torch")
        found = pair.fingerprints()[pair.stage("answer", "torch", member).address]
        assert found == theirs.fingerprints()[f"{recipe}/answer-torch"]
        assert answers.inputs["train"] == here.out
        assert view.stage("report").inputs["training"] == here.plots[0]
        assert view.stage("report").config["trained_by"] == recipe
        assert "trained_by" not in theirs.stage("report").config
    assert not [stage for stage in pair.own.stages if stage.kind == "train"]
    assert shipped_lines(pair) == [
        "Trained over the weights that cpu-int4 holds, and kept in fp32 beside them: what is"
        " measured as torch is what ships.",
        "first is the adapter of recipe one, as that trains it.",
        "second is the adapter of recipe two, as that trains it.",
    ]


def test_what_is_edited_in_the_other_recipe_is_edited_here(project: Project) -> None:
    before, composed = plan(project, "pair").fingerprints(), compose(project, "pair")
    assert (
        composed.origin(("adapters", "first", "train", "num_train_epochs")) == "recipes/one.yaml:3"
    )
    recipe_file(project, ONE.replace("epochs: 1", "epochs: 3"), "one")
    after = plan(project, "pair")
    assert after.fingerprints()["pair/export-cpu-int4"] != before["pair/export-cpu-int4"]
    assert after.stage("train", member="first").address not in before
    assert after.stage("train", member="second").address in before


def test_a_key_that_is_edited_there_is_told_with_its_place_there(project: Project) -> None:
    before = plan(project, "pair").stage("train", member="second")
    recipe_file(project, ONE.replace("epochs: 1", "epochs: 3"), "two")
    pair = plan(project, "pair")
    after = pair.stage("train", member="second")
    (reason,) = identity_reasons(pair, after, before.identity(), after.identity())
    assert reason.subject == "adapters.second.train.num_train_epochs"
    assert reason.where == "recipes/two.yaml:3"


def test_it_stands_beside_adapters_that_the_recipe_trains(project: Project) -> None:
    text = TRAINED.replace("{data: DATA, eval: {metrics: [exact_match]}}", "{train: {seed: 4}}")
    group = "defaults: [{/data: tiny-commands}, {/eval: structured}]\n"
    (project.root / "conf/adapter").mkdir(exist_ok=True)
    (project.root / "conf/adapter/commands.yaml").write_text(group, encoding="utf-8")
    text = text.replace(
        "{track: none}, _self_", "{track: none}, adapter@adapters.own: commands, _self_"
    )
    recipe_file(project, text, "both")
    both = plan(project, "both")
    assert both.stage("train", member="own").address == "both/train"
    assert [*both.stage("train", member="own").config["members"]] == ["own"]
    assert both.stage("train", member="first").pipeline.startswith("train-earlier-")
    assert "first" not in both.stage("train", member="own").config["members"]
    # With others or alone, its own adapters are the same work.
    recipe_file(project, text.replace("  first: {recipe: one}\n", ""), "alone")
    assert plan(project, "alone").fingerprints()["alone/train"] == both.fingerprints()["both/train"]
    assert api.plan("both", project=project.root).cost.trains
    apart = plan(project, "both", "+train.together=false")
    assert apart.stage("train", member="own").name == "train--own"
    assert (
        apart.stage("train", member="first").address == both.stage("train", member="first").address
    )


def test_a_dumped_recipe_reads_back(project: Project) -> None:
    pair = plan(project, "pair")
    assert typed(dict(pair.effective)) == with_default_gates(compose(project, "pair")).whole
    findings = api.plan("pair", project=project.root).findings
    assert {finding.check.number for finding in findings} >= {1, 25}
    assert not [finding for finding in findings if finding.blocks]


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("adapters.first.recipe=nix", "no recipe is called 'nix'"),
        ("adapters.first.recipe=pair", "needs a recipe of one adapter, and pair has several"),
        ("+adapters.first.train.seed=3", "adapters.first.train: the adapter is as recipe one"),
        ("target.cpu-int4.int4_block_size=64", "target.cpu-int4 is quantised otherwise there"),
        ("model.source.seed=5", "it is trained over another base model"),
    ],
)
def test_refused(project: Project, override: str, what: str) -> None:
    if override.startswith("model"):
        recipe_file(project, PAIR + "model: {source: {seed: 0}}\n", "pair")
    assert what in refused(project, "pair", override)


def test_code_of_the_project_is_executed_behind_the_check_of_the_policy(project: Project) -> None:
    (project.root / "loss.py").write_text("class Own:\n    pass\n", encoding="utf-8")
    own = "train: {loss: {type: python, file: loss.py, name: Own}, "
    recipe_file(project, ONE.replace("train: {", own), "two")
    pair = plan(project, "pair")
    taken, theirs = pair.stage("train", member="second"), plan(project, "two")
    # A shared pipeline has no check before it, and `dvc repro` asks nobody else.
    assert taken.address == "pair/train--second"
    assert pair.stage("check", member="second").address in taken.after.values()
    assert pair.fingerprints()[taken.address] == theirs.fingerprints()["two/train"]
    assert shared_stage(pair.stage("train", member="first").pipeline)
    (project.conf / "policy").mkdir(exist_ok=True)
    found = {}
    for code in ("[]", "[loss.py]"):
        (project.root / FILE).write_text(f"code: {code}\n", encoding="utf-8")
        findings = api.plan("pair", project=project.root).findings
        found[code] = [finding.check.name for finding in findings if finding.blocks]
    assert found == {"[]": ["allowed"], "[loss.py]": []}


def test_overrides_that_reach_nobody_are_refused(project: Project) -> None:
    for override in ("+eval.limit=5", "+train.learning_rate=1e-3"):
        with pytest.raises(BadRecipeError, match="so that it changes nothing") as caught:
            plan(project, "pair", override)
        assert caught.value.mend == "change it in recipe one, which trains first"


def test_one_over_what_the_recipe_has_not_is_told_where_it_is_named(project: Project) -> None:
    recipe_file(project, ONE.replace("over: cpu-int4, ", ""), "two")
    over = "adapters.second.recipe: second is trained over the full-precision base, first over cpu"
    assert f"recipes/pair.yaml:5: {over}" in refused(project, "pair")
    with pytest.raises(BadRecipeError) as caught:
        plan(project, "pair", "target=[cpu-fp32]")
    first = "recipes/pair.yaml:4: adapters.first.recipe: no target is called 'cpu-int4'"
    assert caught.value.what.startswith(first)


def test_one_that_goes_on_from_another_is_taken_with_what_it_goes_on_from(project: Project) -> None:
    text = ONE.replace("num_train_epochs: 1", "num_train_epochs: 1, continue_from: one")
    recipe_file(project, text, "two")
    pair, two = plan(project, "pair"), plan(project, "two")
    taken = pair.stage("train", member="second")
    assert pair.fingerprints()[taken.address] == two.fingerprints()["two/train"]
    # What it goes on from is the other adapter, which is trained once.
    assert taken.inputs["earlier"] == pair.stage("train", member="first").out
    assert len(pair.of("train")) == 2
    findings = api.plan("pair", project=project.root).findings
    assert not [finding for finding in findings if finding.blocks]
    recipe_file(project, PAIR.replace("  first: {recipe: one}\n", ""), "alone")
    assert len(plan(project, "alone").of("train")) == 2


def test_a_loop_over_other_recipes_has_an_end(project: Project) -> None:
    recipe_file(project, PAIR.replace("recipe: two", "recipe: other"), "pair")
    recipe_file(project, PAIR.replace("recipe: two", "recipe: pair"), "other")
    assert "needs a recipe of one adapter" in refused(project, "pair")


# --- add-adapter ----------------------------------------------------------------------------------


def test_adding_one_trains_nobody_and_writes_a_recipe_of_its_own(project: Project) -> None:
    gates = (
        "gates: [{metric: exact_match, min: 0.4}, {metric: accuracy, artifact: more, min: 0.1}]\n"
    )
    (project.root / "conf/target/more.yaml").write_text(
        "more: {execution_provider: cpu, precision: fp32}\n", encoding="utf-8"
    )
    text = ONE.replace("[cpu-int4]", "[cpu-int4, more]") + gates
    recipe_file(project, text, "two")
    name, left = add_adapter(project, "outputs/one/export-cpu-int4", "two")
    assert name == "one-two"
    assert left == ("left out: the gate on accuracy of more, which one-two does not have",)
    whole = compose(project, name).whole
    assert [(gate.adapter, gate.metric) for gate in whole.gates] == [("two", "exact_match")]
    found = plan(project, name)
    assert (
        found.fingerprints()[found.stage("train", member="two").address]
        == (plan(project, "two").fingerprints()["two/train"])
    )
    # A third joins the two, with all that they are.
    recipe_file(project, ONE.replace("epochs: 1", "epochs: 3"), "three")
    name, _ = add_adapter(project, "one-two", "three", "all")
    assert [*compose(project, name).whole.adapters] == ["one", "two", "three"]
    assert [gate.adapter for gate in compose(project, name).whole.gates] == ["two"]
    more = plan(project, name)
    addresses = {stage.address for stage in more.of("train")}
    assert {stage.address for stage in found.of("train")} < addresses
    assert len(more.of("quantize")) == 1


@pytest.mark.parametrize(
    ("export", "recipe", "name", "what"),
    [
        ("nix", "two", "", "nix: no recipe and no export's folder"),
        ("one/export-nix", "two", "", "one/export-nix: no export"),
        ("one", "pair", "", "pair: it has several adapters"),
        ("one", "one", "", "one has an adapter one already"),
        ("one", "two", "pair", "recipes/pair.yaml exists"),
        ("one", "two", "A B", "'A B': not a recipe name"),
    ],
)
def test_adding_what_cannot_be(
    project: Project, export: str, recipe: str, name: str, what: str
) -> None:
    before = {*project.names()}
    with pytest.raises(UsageError, match=what.replace(".", r"\.")):
        add_adapter(project, export, recipe, name)
    assert {*project.names()} == before


def test_one_over_another_base_is_refused_and_nothing_is_left(project: Project) -> None:
    recipe_file(project, f"{ONE}target: {{cpu-int4: {{int4_block_size: 64}}}}\n", "two")
    with pytest.raises(SlmcompileError) as caught:
        add_adapter(project, "one", "two")
    assert caught.value.code == Exit.BAD_RECIPE
    assert "one-two" not in project.names()


@pytest.mark.parametrize("of", ["one/export-cpu-int4", "two/train"])
def test_a_damaged_one_is_refused_before_anything_is_written(project: Project, of: str) -> None:
    folder = project.root / "outputs" / of
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"as written")
    write_manifest(folder, of.partition("/")[2].partition("-")[0], {})
    assert add_adapter(project, "one", "two", "whole")[0] == "whole"
    (folder / "weights").write_bytes(b"as_written")
    with pytest.raises(CorruptError) as caught:
        add_adapter(project, "one", "two")
    assert caught.value.code == Exit.CORRUPT
    assert "one-two" not in project.names()


def test_one_that_was_killed_goes_on_and_what_it_is_beside_stays(project: Project) -> None:
    name, _ = add_adapter(project, "one", "two")
    path = project.recipes / f"{name}.yaml"
    before = path.stat().st_mtime_ns
    assert add_adapter(project, "one", "two") == (name, ())
    assert path.stat().st_mtime_ns == before
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"one-two\.yaml exists"):
        add_adapter(project, "one", "two")


def test_one_that_is_there_under_another_name_is_not_added_twice(project: Project) -> None:
    with pytest.raises(UsageError, match="pair has an adapter two already, as second"):
        add_adapter(project, "pair", "two")


def test_of_what_was_added_one_target_can_be_asked_for(project: Project) -> None:
    text = """
defaults: [tiny, {override /target: [cpu-fp32, cpu-int8]}, _self_]
target: {cpu-int8: {adapters: beside}}
"""
    for name, epochs in (("one", 1), ("two", 2), ("three", 3)):
        recipe_file(project, f"{text}train: {{num_train_epochs: {epochs}}}\n", name)
    name, _ = add_adapter(project, "one", "two")
    folder = str(project.root / f"outputs/{name}/export-cpu-int8")
    whole = compose(project, add_adapter(project, folder, "three", "three-of-them")[0]).whole
    assert [each.recipe for each in whole.adapters.values()] == ["one", "two", "three"]
    assert [*whole.target] == ["cpu-int8"]


def test_one_whose_last_run_had_overrides_is_not_taken_for_another(project: Project) -> None:
    sync(project, [plan(project, "two", "train.seed=5")])
    with pytest.raises(
        UsageError, match=r"two ran last with train\.seed=5, which its file"
    ) as told:
        add_adapter(project, "one", "two")
    assert "--save-as" in told.value.mend
    assert "one-two" not in project.names()
    # What changes nothing of it is no other run.
    sync(project, [plan(project, "two", "train.logging_steps=7")])
    assert add_adapter(project, "one", "two")[0] == "one-two"


@pytest.mark.parametrize("name", ["torch", "a--b"])
def test_a_refusal_names_no_file_that_is_gone_again(project: Project, name: str) -> None:
    recipe_file(project, ONE, name)
    with pytest.raises(SlmcompileError) as caught:
        add_adapter(project, "one", name, "new")
    assert caught.value.what.startswith(f"{name} cannot join one: adapters.{name}: ")
    assert caught.value.code == Exit.BAD_RECIPE
    assert "new" not in project.names()


HUBBED = """
defaults: [{data: tiny-commands}, {train: tiny}, {eval: structured}, {target: [cpu-int4]}, _self_]
model: {name: hubbed, license: MIT, source: {type: hub, repo_id: owner/model, revision: main}}
train: {over: cpu-int4}
"""


def test_adapters_over_a_locked_model_are_joined_over_that_commit(project: Project) -> None:
    for seed, name in enumerate(("one", "two", "three")):
        recipe_file(project, HUBBED.replace("int4}", f"int4, seed: {seed}}}"), name)
        write_lock(project, name, {"model:owner/model@main": f"commit:{'1' * 40}"})
    name, _ = add_adapter(project, "one", "two")
    for joined in (name, add_adapter(project, name, "three", "all")[0]):
        base = plan(project, joined).stage("base")
        assert base.config["source"]["revision"] == "1" * 40
    write_lock(project, "three", {"model:owner/model@main": f"commit:{'2' * 40}"})
    with pytest.raises(SlmcompileError) as caught:
        add_adapter(project, name, "three", "other")
    assert "three cannot join one-two: " in caught.value.what
    assert "slmcompile lock --upgrade" in caught.value.mend
    assert not (project.root / "locks/other.lock").exists()


def test_a_plan_is_made_from_the_locks_of_all_whose_rows_it_reads(project: Project) -> None:
    (project.root / "conf/data/rows.yaml").write_text(
        "name: rows\ntask: classification\n"
        "template: {type: text, prompt: '{text} = ', completion: '{label}'}\n"
        "source: {type: hub, repo_id: owner/rows, splits: {train: train}}\n",
        encoding="utf-8",
    )
    locked = {"model:owner/model@main": "1" * 40, "dataset:owner/rows": "3" * 40}
    for name, more in (("one", ""), ("two", ", continue_from: one"), ("three", ", seed: 3")):
        text = HUBBED.replace("tiny-commands", "rows").replace("int4}", f"int4{more}}}")
        recipe_file(project, text, name)
        write_lock(project, name, {key: f"commit:{sha}" for key, sha in locked.items()})
    assert {"locks/one.lock", "locks/two.lock"} <= {*plan(project, "two").own.sources}
    joined = plan(project, add_adapter(project, "three", "two")[0])
    assert {f"locks/{name}.lock" for name in ("one", "two", "three")} <= {*joined.own.sources}
    assert {stage.config["source"]["revision"] for stage in joined.of("data")} == {"3" * 40}


def test_one_that_the_export_took_is_looked_at_too(project: Project) -> None:
    recipe_file(project, ONE.replace("epochs: 1", "epochs: 3"), "three")
    folder = project.root / plan(project, "pair").stage("train", member="first").out
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"as written")
    write_manifest(folder, "train", {})
    (folder / "weights").write_bytes(b"as_written")
    with pytest.raises(CorruptError):
        add_adapter(project, "pair", "three")
    assert "pair-three" not in project.names()
