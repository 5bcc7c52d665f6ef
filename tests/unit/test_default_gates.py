"""A quantised target that no gate is about has one all the same, and a broken one does not pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile.cli.main import main
from slmcompile.console.errors import BadRecipeError
from slmcompile.execution.sync import compile_recipe
from slmcompile.plans import default_gates
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.compared import comparisons
from slmcompile.scoring.gates import judge
from tests.projects import REPOSITORY, make_project

THREE = "target=[cpu-fp32,cpu-int8,cpu-int4]"
OFF = "+default_gates=false"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root: Path = make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))
    return Project(root)


def bars(plan: Plan) -> list[tuple[str, str, float | None]]:
    gates = plan.stage("gate").config["gates"]
    assert gates == plan.effective["gates"] == plan.stage("report").config["recipe"]["gates"]
    return [(gate["artifact"], gate["metric"], gate["max_drop"]) for gate in gates]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], []),
        (
            [THREE],
            [("cpu-int8", "exact_match", 0.03), ("cpu-int4", "exact_match", 0.03)],
        ),
        (
            [THREE, "+gates=[{metric: accuracy, artifact: cpu-int4, min: 0.2}]"],
            [("cpu-int4", "accuracy", None), ("cpu-int8", "exact_match", 0.03)],
        ),
        ([THREE, OFF], []),
        (
            ["target=[cpu-int4]", "eval.metrics=[perplexity,chrf,accuracy]"],
            [("cpu-int4", "chrf", 3.0)],
        ),
        (["target=[cpu-int4]", "eval.metrics=[perplexity]"], []),
    ],
)
def test_every_quantised_target_has_a_bar_on_what_the_recipe_measures_first(
    project: Project, overrides: list[str], wanted: list[tuple[str, str, float | None]]
) -> None:
    assert bars(compile_recipe(project, "tiny", overrides)) == wanted


def test_a_broken_int4_does_not_pass_by_default_and_chance_does(project: Project) -> None:
    plan = compile_recipe(project, "tiny", ["target=[cpu-int4]"])
    gates = [Gate(**gate) for gate in plan.stage("gate").config["gates"]]

    def passed(rows: int, wrong: int) -> bool:
        """Of an export that is wrong in these rows, where torch is right in all."""
        answers = {
            name: [
                {
                    "id": at,
                    "compared": "no" if at < bad else "yes",
                    "prediction": "no" if at < bad else "yes",
                    "reference": "yes",
                    "correct": at >= bad,
                }
                for at in range(rows)
            ]
            for name, bad in (("torch", 0), ("cpu-int4", wrong))
        }
        measured = {
            name: {"exact_match": sum(bool(row["correct"]) for row in listed) / rows}
            for name, listed in answers.items()
        }
        found = comparisons(measured, answers, ["cpu-int4"])
        (verdict,) = judge(gates, measured, found)
        assert verdict.difference is not None
        assert "within 0.03 of torch's 1, or by chance" in verdict.text
        # Without the rows there is nothing that chance could explain.
        (alone,) = judge(gates, measured)
        assert alone.passed == (wrong / rows <= 0.03)
        return verdict.passed

    assert passed(1000, 30)
    assert not passed(1000, 31)
    assert passed(20, 1), "one row of twenty is five points"
    assert not passed(20, 8)


def test_a_gate_beyond_chance_is_of_all_rows_against_torch(project: Project) -> None:
    gate = "{metric: exact_match, artifact: cpu-fp32, min: 0.5, beyond_chance: true}"
    with pytest.raises(BadRecipeError, match="compares all rows of an export"):
        compile_recipe(project, "tiny", [f"+gates=[{gate}]"])


def test_it_asks_no_model_again(project: Project) -> None:
    with_it, without = (
        compile_recipe(project, "tiny", words).fingerprints() for words in ([THREE], [THREE, OFF])
    )
    assert {stage for stage in with_it if with_it[stage] != without[stage]} == {
        "tiny/check",
        "tiny/gate",
        "tiny/report",
    }


def test_the_plan_says_it(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    main(["plan", "tiny", THREE, "--json"])
    assert "exact_match of cpu-int4 (higher is better)" in capsys.readouterr().out


def test_more_than_there_can_be_are_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_gates, "MOST_GATES", 1)
    with pytest.raises(BadRecipeError, match="tiny: 2 gates with those of targets"):
        compile_recipe(project, "tiny", [THREE, "train.seed=9"])


def test_each_adapter_has_its_own_on_what_its_task_measures_first() -> None:
    gates = compile_recipe(Project(REPOSITORY), "assistant", ()).effective["gates"]
    of_target = {
        gate["adapter"]: gate["metric"] for gate in gates if gate["artifact"] == "cpu-int4"
    }
    assert of_target == {"intents": "exact_match", "tone": "accuracy", "titles": "rouge_l"}
