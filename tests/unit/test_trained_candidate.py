"""A candidate with a training of its own, over its own base: its stages, and what a plan says."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile import api
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.choices import choice_lines
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from tests.projects import make_project

AUTO = ("target=[cpu-auto]",)
OVER = (*AUTO, "+target.cpu-auto.train_over=int4")
NAME = "cpu-auto-over-int4"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path, data=("tiny",)))


def plan(project: Project, *overrides: str) -> Plan:
    return compile_recipe(project, "tiny", overrides)


def test_its_base_its_training_and_what_ships_belong_together(project: Project) -> None:
    compiled = plan(project, *OVER)
    held, train = compiled.stage("quantize", NAME), compiled.stage("train", NAME)
    candidate = compiled.stage("candidate", NAME)
    assert set(held.inputs) == {"base"}
    assert train.inputs["over"] == held.out
    assert (candidate.inputs["quantized"], candidate.inputs["over"]) == (held.out, held.out)
    assert candidate.inputs["train"] == train.out
    merged = compiled.stage("candidate", "cpu-auto-int4")
    assert merged.inputs["train"] == compiled.stage("train").out != train.out
    assert merged.config["target"] == candidate.config["target"]
    # Torch is what all of them are held against: the one over the base as it was fetched.
    for torch in (compiled.stage("measure", "torch-256"), compiled.stage("answer", "torch")):
        assert torch.inputs["train"] == compiled.stage("train").out
        assert "over" not in torch.inputs
    assert compiled.stage("measure", NAME).inputs["export"] == candidate.out
    assert compiled.stage("export", "cpu-auto").inputs["candidate-over-int4"] == candidate.out
    # It learns the same way, and waits for the same checks.
    assert train.config == compiled.stage("train").config
    assert train.after == compiled.stage("train").after
    assert len({*train.outs, *compiled.stage("train").outs}) == 6


def test_nothing_else_runs_again_for_it(project: Project) -> None:
    before, after = plan(project, *AUTO).fingerprints(), plan(project, *OVER).fingerprints()
    moved = {name.rpartition("/")[2] for name in before if before[name] != after[name]}
    assert moved == {
        "check", "choose-cpu-auto", "export-cpu-auto", "answer-cpu-auto", "score", "report", "gate",
    }  # fmt: skip
    added = {name.rpartition("/")[2] for name in after.keys() - before.keys()}
    assert added == {f"{kind}-{NAME}" for kind in ("quantize", "train", "candidate", "measure")}


def test_the_report_knows_how_its_adapter_ships(project: Project) -> None:
    told = plan(project, *OVER).stage("choose", "cpu-auto").config["candidates"]
    assert told["over-int4"] == {**told["int4"], "adapters": "beside"}
    assert "adapters" not in told["int4"]


def test_the_plan_counts_and_names_the_training_that_it_costs(project: Project) -> None:
    once, twice = (
        api.plan("tiny", [*words, "train.max_steps=20"], project=project.root)
        for words in (AUTO, OVER)
    )
    assert (once.cost.steps, twice.cost.steps) == (20, 40)
    assert "over-int4" not in " ".join(choice_lines(once.choices))
    assert any("one more training, over int4" in line for line in choice_lines(twice.choices))


def test_a_recipe_with_several_adapters_has_none(project: Project) -> None:
    (project.root / "recipes/both.yaml").write_text(
        "defaults:\n"
        "  - model: tiny-llama\n"
        "  - train: tiny\n"
        "  - eval: structured\n"
        "  - target: [cpu-auto]\n"
        "  - track: none\n"
        "  - data@adapters.one.data: tiny-commands\n"
        "  - data@adapters.two.data: tiny-commands\n"
        "  - _self_\n"
        "target: {cpu-auto: {train_over: int4}}\n",
        encoding="utf-8",
    )
    with pytest.raises(Exception, match="several adapters trains them over one base"):
        compile_recipe(project, "both")
