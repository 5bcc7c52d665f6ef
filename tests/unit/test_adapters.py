"""Recipes with several adapters: what they are made of, and what cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from slmcompile import api
from slmcompile.checks.judge import refusal
from slmcompile.console.errors import BadRecipeError, Exit, SlmcompileError
from slmcompile.data.report_facts import DataFacts
from slmcompile.estimate.time import cost_line, cost_of
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.plan_text import plan_text
from slmcompile.facts.gather import contexts_of
from slmcompile.plans.definition import Plan
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project
from slmcompile.state import journal
from slmcompile.state.changes import Change
from slmcompile.state.emit import dvc_yaml
from slmcompile.state.scratch import member_fingerprint, work_fingerprint
from tests.projects import make_project

GROUP = """defaults: [{/data: tiny-commands}, {/eval: structured}]
eval: {max_new_tokens: 8}
train: {learning_rate: 4e-3}
"""
RECIPE = """defaults:
  - model: tiny-llama
  - train: tiny
  - adapter@adapters.one: commands
  - adapter@adapters.two: commands
  - target: [cpu-fp32]
  - track: none
  - _self_
"""
TUNED = "adapters: {two: {data: {seed: 3}, train: {lora: {r: 4}}}}\n"
GATE = "gates: [{adapter: one, metric: exact_match, min: 0.5}]\n"
MANIFESTS: dict[str, dict[str, dict[str, str]]] = {"base": {"files": {}}, "data": {"files": {}}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = make_project(tmp_path, data=("tiny",))
    (folder / "conf/adapter").mkdir(exist_ok=True)
    (folder / "conf/adapter/commands.yaml").write_text(GROUP, encoding="utf-8")
    return Project(folder)


def write(project: Project, text: str = TUNED + GATE) -> None:
    (project.root / "recipes/pair.yaml").write_text(RECIPE + text, encoding="utf-8")


def plan(project: Project, *overrides: str) -> Plan:
    return compile_recipe(project, "pair", overrides)


def failure(project: Project, text: str, *overrides: str) -> SlmcompileError:
    write(project, text)
    with pytest.raises(SlmcompileError) as caught:
        plan(project, *overrides)
    return caught.value


def test_a_member_is_the_recipe_with_what_is_its_own_in_place(project: Project) -> None:
    write(project)
    composed = compose(project, "pair")
    one, two = (composed.members[name] for name in ("one", "two"))
    # The override of the recipe over the group's file, and that over the recipe's train.
    assert (one.recipe.train.lora.r, two.recipe.train.lora.r) == (16, 4)
    assert one.recipe.train.learning_rate == two.recipe.train.learning_rate == 4e-3
    assert one.recipe.train.num_train_epochs == composed.whole.train.num_train_epochs
    assert composed.whole.train.learning_rate != 4e-3
    assert (one.recipe.data.seed, two.recipe.data.seed) == (0, 3)
    assert [gate.metric for gate in one.recipe.gates] == ["exact_match"]
    assert not two.recipe.gates
    assert one.origin(("train", "learning_rate")).startswith("conf/adapter/commands.yaml:3")
    assert two.origin(("train", "lora", "r")).startswith("recipes/pair.yaml:")
    assert one.origin(("train", "num_train_epochs")).startswith("conf/train/tiny.yaml")
    with pytest.raises(ValueError, match="has adapters"):
        _ = composed.recipe


def test_each_has_its_stages_and_all_one_training(project: Project) -> None:
    write(project)
    compiled = plan(project)
    names = {stage.name for stage in compiled.own.stages}
    assert names == {
        "check--one", "check--two", "train", "score", "report", "gate",
        *(f"{kind}--{name}" for kind in ("export-cpu-fp32", "answer-torch", "answer-cpu-fp32")
          for name in ("one", "two")),
    }  # fmt: skip
    train = compiled.stage("train")
    assert train.config["members"]["two"]["lora"]["r"] == 4
    assert "together" not in json.dumps(train.config)
    answer = compiled.stage("answer", "torch", "two")
    assert answer.inputs["train"] == "outputs/pair/train/adapters/two"
    assert answer.recipe_key("seed") == "data.seed"
    assert train.recipe_key("members.two.lora.r") == "adapters.two.train.lora.r"
    assert compiled.stage("data", member="one") != compiled.stage("data", member="two")
    assert compiled.stage("base", member="one") == compiled.stage("base")


def test_no_recipe_writes_where_another_recipe_s_adapter_does(project: Project) -> None:
    write(project)
    (project.root / "recipes/pair--one.yaml").write_text(
        (project.root / "recipes/tiny.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    group, plain = (compile_recipe(project, name) for name in ("pair", "pair--one"))
    outs = [stage.out for compiled in (group, plain) for stage in compiled.own.stages]
    assert len(outs) == len(set(outs))
    titles = [yaml.safe_load(dvc_yaml(each.own))["plots"] for each in (group, plain)]
    assert [list(plot) for listed in titles for plot in listed] == [
        ["loss--one"], ["loss--two"], ["loss"],
    ]  # fmt: skip


def test_a_view_is_the_plan_of_a_plain_recipe(project: Project) -> None:
    write(project)
    view = plan(project).views["two"]
    assert {stage.member for stage in view.own.stages} == {"", "two"}
    assert view.stage("train").config["lora"]["r"] == 4
    assert view.stage("score").config["task"] == "classification"
    assert set(view.stage("train").inputs) == {"base", "data"}
    assert view.effective["data"]["seed"] == 3
    assert "adapters" not in view.effective


def moved(project: Project, *overrides: str) -> set[str]:
    """Stages that another value moves, by name."""
    before, after = plan(project).fingerprints(), plan(project, *overrides).fingerprints()
    return {name.partition("/")[2] for name in before if after.get(name) != before[name]}


@pytest.mark.parametrize(
    ("override", "trains"),
    [
        ("adapters.two.eval.max_new_tokens=9", False),
        ("adapters.two.data.max_length=60", True),
        ("adapters.two.train.lora.r=8", True),
    ],
)
def test_what_is_one_adapter_s_moves_nothing_of_another(
    project: Project, override: str, trains: bool
) -> None:
    write(project)
    found = moved(project, override)
    assert ("train" in found) == trains
    assert found >= {"check--two", "answer-torch--two", "score", "report", "gate"}
    assert not {name for name in found if name.endswith("--one")}


def test_what_another_one_s_metric_needs_is_nothing_to_an_adapter(project: Project) -> None:
    write(project)
    by_rouge = "+adapters.two.train.metric_for_best_model=rouge_l"
    measured = "adapters.two.eval.metrics=[rouge_l]"
    compiled = plan(project, by_rouge, measured)
    assert "rouge-score" in compiled.stage("train").packages
    assert not {name for name in moved(project, by_rouge, measured) if name.endswith("--one")}
    before, after = (each.stage("train").spec() for each in (plan(project), compiled))
    for name, same in (("one", True), ("two", False)):
        kept, now = (member_fingerprint(each, name, MANIFESTS, {}) for each in (before, after))
        assert (kept == now) == same, name


def test_in_isolation_it_is_the_work_that_it_is_alone(project: Project) -> None:
    write(project)
    together = plan(project, "train.isolated=true").stage("train").spec()
    alone = plan(project, "train.together=false").stage("train", member="two").spec()
    assert member_fingerprint(together, "two", MANIFESTS, {}) == work_fingerprint(
        alone, MANIFESTS, {}
    )


def test_a_plan_says_whose_a_shared_stage_is_that_not_all_need(project: Project) -> None:
    write(project)
    planned = api.plan("pair", project=project.root)
    lines = {line.split()[1]: line for line in plan_text(planned).splitlines() if " will " in line}
    for name in ("one", "two"):
        data = planned.plan.stage("data", member=name).address
        assert lines[data].endswith(f"; for {name}")
    for stage in (planned.plan.stage("base"), planned.plan.stage("answer", "torch", "one")):
        assert "; for" not in lines[stage.address]


def test_apart_each_has_a_training_stage(project: Project) -> None:
    write(project)
    compiled = plan(project, "train.together=false")
    assert {stage.name for stage in compiled.of("train")} == {"train--one", "train--two"}
    plain = compile_recipe(project, "tiny", ["train.learning_rate=4e-3"])
    # Alone it is a plain recipe's training, to the key.
    assert compiled.stage("train", member="one").identity() == plain.stage("train").identity()
    assert compiled.stage("answer", "torch", "one").inputs["train"] == "outputs/pair/train--one"


@pytest.mark.parametrize(
    ("text", "overrides", "says"),
    [
        ("data: {name: x}\n", (), "data: each of the adapters has its own"),
        ("gates: [{metric: exact_match, min: 0.5}]\n", (), "gates.0: it names no adapter"),
        (GATE.replace("one", "nobody"), (), "gates.0: no adapter is called 'nobody'"),
        ("adapters: {two: {train: {lora: {rr: 3}}}}\n", (), "adapters.two.train.lora.rr: unknown"),
        ("train: {learning_rate: fast}\n", (), "train.learning_rate: must be a number"),
        (
            "adapters: {two: {data: {max_length: 1}}}\n",
            (),
            "adapters.two.data.max_length: must be 8",
        ),
        ("", ("+adapters.two.train.together=false",), "adapters.two.train.together: it says how"),
        (
            "train: {together: false}\n",
            ("+adapters.two.train.isolated=true",),
            "adapters.two.train.isolated: it says how all adapters",
        ),
        (
            "train: {together: false}\n",
            ("train.isolated=true",),
            "train.isolated: without effect: each adapter has a training of its own",
        ),
        ("", ("+adapters.torch=${adapters.one}",), "adapters.torch: the name is taken"),
        ("", ("+adapters.a--b=${adapters.one}",), "adapters.a--b: a name with --"),
    ],
)
def test_what_cannot_be_is_told_where_it_stands(
    project: Project, text: str, overrides: tuple[str, ...], says: str
) -> None:
    error = failure(project, text, *overrides)
    assert error.code == Exit.BAD_RECIPE
    assert says in error.what
    # What is common is said once, and not of each.
    assert ": adapters.one" not in error.what
    assert error.mend


@pytest.mark.parametrize("key", ["together=false", "isolated=true"])
def test_how_several_are_trained_is_no_matter_of_a_plain_recipe(project: Project, key: str) -> None:
    with pytest.raises(BadRecipeError, match=r"without effect: .* the recipe names none") as caught:
        compile_recipe(project, "tiny", [f"train.{key}"])
    assert "override" in caught.value.what
    assert caught.value.mend


def test_another_method_of_one_adapter_is_chosen_as_a_train_group(project: Project) -> None:
    error = failure(project, TUNED, "+adapters.two.train.method=bottleneck")
    assert "bottleneck does not read lora" in error.what
    assert error.mend.startswith("choose train=bottleneck instead")


def test_a_group_that_another_group_s_file_names_without_a_slash_is_told_so(
    project: Project,
) -> None:
    path = project.conf / "adapter/commands.yaml"
    path.write_text(GROUP.replace("/data:", "data:"), encoding="utf-8")
    error = failure(project, TUNED)
    assert error.what == "conf/adapter/commands.yaml:1: no group is called 'adapter/data'"
    assert error.mend.startswith("write `/data: tiny-commands`: without the slash ")


def test_an_override_that_every_adapter_overrides_is_refused(project: Project) -> None:
    write(project, "adapters: {one: {train: {lora: {r: 8}}}, two: {train: {lora: {r: 4}}}}\n")
    with pytest.raises(
        SlmcompileError, match=r"every adapter has train\.lora\.r of its own"
    ) as caught:
        plan(project, "train.lora.r=6")
    assert caught.value.mend == "say whose: adapters.one.train.lora.r=…"
    assert plan(project, "adapters.one.train.lora.r=6").members
    # One that some of them hear is none of these.
    write(project)
    assert plan(project, "train.lora.r=6").views["one"].stage("train").config["lora"]["r"] == 6


def test_an_adapter_of_a_plain_recipe_s_gate_is_refused(project: Project) -> None:
    with pytest.raises(SlmcompileError, match="no adapter is called 'one'"):
        compile_recipe(project, "tiny", ["gates=[{adapter: one, metric: exact_match, min: 0.1}]"])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+adapters.two.train.seed=3", "train.seed is"),
        ("+adapters.two.train.precision=bf16", "train.precision is"),
        ("+adapters.two.train.num_threads=2", "train.num_threads is"),
        ("+adapters.two.train.lora.modules_to_save=[norm]", "modules_to_save trains layers"),
        ("train=full", "moves the weights of the base model"),
    ],
)
def test_what_adapters_must_have_in_common_is_named(
    project: Project, override: str, says: str
) -> None:
    write(project, GATE if override == "train=full" else TUNED + GATE)
    with api.joined(project):
        planned = api.plan_compiled(project, plan(project, override), None)
    error = refusal(planned.findings)
    assert error is not None
    assert says in error.what
    assert "train.together=false" in error.mend


def rows_report(longest: int) -> DataFacts:
    lengths = {"max": longest, "min": 4, "percentiles": {"p95": longest}}
    return DataFacts(
        {
            "counts": {"train": 64, "validation": 8, "test": 8},
            "lengths": {"total": lengths, "answer": lengths, "prompt": lengths},
            "tokens": {"train": {"total": longest * 64, "trained": 256}},
        }
    )


def test_the_cost_is_of_those_that_are_trained(project: Project) -> None:
    write(project)
    found = plan(project)
    train = found.stage("train")

    def told(*kept: str) -> tuple[bool, int | None, int | None]:
        change = Change(train, "run", kept=kept)
        alone = contexts_of(project, found, (change,), None).values()
        contexts = [
            replace(context, data=rows_report(longest))
            for context, longest in zip(alone, (10, 90), strict=True)
        ]
        cost = cost_of(contexts, (change,))
        return cost.trains, cost.tokens, cost.steps

    epochs = compose(project, "pair").whole.train.num_train_epochs
    assert told()[:2] == (True, round(6400 * epochs))
    assert told("one")[:2] == (True, round(5760 * epochs))
    assert told("one", "two") == (False, None, None)
    assert cost_of(list(contexts_of(project, found, (), None).values()), ()).trains is False


def test_a_training_that_takes_all_as_they_are_takes_no_time(project: Project) -> None:
    write(project)
    train = plan(project).stage("train")
    journal.append(project, {"stage": train.address, "kind": "train", "seconds": 500.0})
    contexts = list(contexts_of(project, plan(project), (), None).values())
    cost = cost_of(contexts, (Change(train, "run", kept=("one", "two")),))
    line = cost_line(cost)
    assert "nothing of length to run" in line
    assert "nothing is trained" in line
