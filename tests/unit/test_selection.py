"""``--select``: dbt's graph syntax over stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmcompile.cli.main import main
from slmcompile.console.errors import StaleError, UsageError
from slmcompile.execution.dvc_executor import _targets
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.selection import select, with_needed
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from tests.pretend import pretend_run
from tests.projects import make_project

ABOVE = {"base", "data", "check"}
EVALUATIONS = {"answer-baselines", "answer-base", "answer-torch", "answer-cpu-fp32"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve(), data=("tiny",)))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = make_project(tmp_path_factory.mktemp("plan").resolve(), data=("tiny",))
    return compile_recipe(Project(folder), "tiny", ())


@pytest.mark.parametrize(
    ("selectors", "stages"),
    [
        (["train"], {"train"}),
        (["tiny/train"], {"train"}),
        (["tiny/data"], {"data"}),
        (["answer"], EVALUATIONS),
        (["answer-b*"], {"answer-baselines", "answer-base"}),
        (["+train"], {*ABOVE, "train"}),
        (["1+export"], {"base", "data", "train", "export-cpu-fp32"}),
        (["export+"], {"export-cpu-fp32", "answer-cpu-fp32", "score", "report", "gate"}),
        (["export+1"], {"export-cpu-fp32", "answer-cpu-fp32", "report"}),
        (["+export-cpu-fp32+"], {
            *ABOVE, "train", "export-cpu-fp32", "answer-cpu-fp32", "score", "report", "gate",
        }),
        (["base data"], {"base", "data"}),
        (["base", "data"], {"base", "data"}),
        (["answer,train+"], {"answer-torch", "answer-cpu-fp32"}),
        (["*"], {*ABOVE, "train", "export-cpu-fp32", *EVALUATIONS, "score", "report", "gate"}),
    ],
)  # fmt: skip
def test_selectors_mean_what_dbt_means(plan: Plan, selectors: list[str], stages: set[str]) -> None:
    assert {stage.name for stage in select(plan, selectors)} == stages


def test_a_shared_stage_has_its_own_address_too(plan: Plan) -> None:
    data = next(stage for stage in plan.stages() if stage.kind == "data")
    assert select(plan, [data.address]) == (data,)


@pytest.mark.parametrize(
    ("selector", "mend"),
    [("trian", "did you mean 'train'?"), ("+answr", "did you mean 'answer'?")],
)
def test_an_unknown_selector_is_refused_with_the_nearest_name(
    plan: Plan, selector: str, mend: str
) -> None:
    with pytest.raises(UsageError) as caught:
        select(plan, [selector])
    assert caught.value.mend == mend
    with pytest.raises(UsageError):
        select(plan, ["+"])


@pytest.mark.parametrize(
    ("selectors", "mend"),
    [
        ([""], "or leave --select out"),
        (["train,score"], "a space adds: 'train score'"),
        (["train", "base,gate"], "a space adds: 'base gate'"),
        (["train,,base"], "write a stage, a kind or a pattern"),
        (["state:modified"], "write a stage, a kind or a pattern"),
        (["tag:x"], "write a stage, a kind or a pattern"),
        (["@train"], "write a stage, a kind or a pattern"),
    ],
)
def test_what_selects_nothing_is_refused_as_a_pattern_without_a_match_is(
    plan: Plan, selectors: list[str], mend: str
) -> None:
    with pytest.raises(UsageError) as caught:
        select(plan, selectors)
    assert caught.value.what.startswith("--select '")
    assert mend in caught.value.mend


def test_plan_shows_the_selection_alone_and_its_exit_code_is_of_that(
    project: Project,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend_run(project, plan)
    monkeypatch.chdir(project.root)
    told = ["plan", "tiny", "train.learning_rate=1e-4", "--detailed-exitcode", "--json"]
    assert main([*told, "--select", "data answer-base"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {stage["kind"] for stage in shown["stages"]} == {"data", "answer"}
    assert main([*told, "--select", "data export"]) == 2
    assert main(["plan", "tiny", "--select", "tran"]) == 64
    assert main(["plan", "tiny", "--select", ""]) == 64


def needed(project: Project, selector: str, *overrides: str) -> set[str]:
    plan = compile_recipe(project, "tiny", overrides)
    found = changes(project, plan)
    return {stage.name for stage in with_needed(plan, found, select(plan, [selector]))}


def test_an_input_in_the_cache_is_brought_back_and_one_out_of_date_is_refused(
    project: Project, plan: Plan
) -> None:
    pretend_run(project, plan)
    shutil.rmtree(project.root / "outputs/tiny/train")
    brought = needed(project, "answer-torch", "eval.limit=3")
    assert brought == {"check", "train", "answer-torch"}  # no training without its checks
    assert needed(project, "answer-base", "eval.limit=3") == {"answer-base"}
    with pytest.raises(StaleError) as caught:
        needed(project, "answer-torch", "train.learning_rate=1e-4")
    assert "its input tiny/train is missing or out of date" in caught.value.what
    assert "'+answer-torch'" in caught.value.mend
    assert needed(project, "+answer-torch", "train.learning_rate=1e-4") >= {
        "train", "answer-torch",
    }  # fmt: skip


def test_a_selected_training_brings_the_checks_before_it(project: Project, plan: Plan) -> None:
    pretend_run(project, plan)
    shutil.rmtree(project.root / "outputs/checks")
    assert needed(project, "train", "train.learning_rate=1e-4") == {"check", "train"}


def test_only_the_selected_stages_reach_dvc_in_an_order_in_which_they_can_run(plan: Plan) -> None:
    words = _targets(plan, select(plan, ["answer-torch +train"]))
    assert words[:2] == ["--single-item", "pipelines/tiny/dvc.yaml:plan"]
    stages = [word.rpartition(":")[2] for word in words[2:]]
    assert stages == ["base", "data", "check", "train", "answer-torch"]
    assert _targets(plan, None) == ["pipelines/tiny/dvc.yaml"]
