"""A target is chosen by a budget, for real: what runs again, what is written, and what is not.

The tests of this module go through one project in order, as a person would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.files import artifact
from slmcompile.recipe.project import Project
from slmcompile.stages.choice import read_frontier
from tests.projects import environment, make_repository
from tests.workplace import Workplace

pytestmark = pytest.mark.long

TWO = "small: {precision: int4}, middle: {precision: int8}"
LIGHT = ("eval.baselines=false", "eval.base_model=false")
SHOWING = {"check", "report", "gate"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(make_repository(tmp_path_factory.mktemp("project").resolve()))


def _words(candidates: str = TWO, **budget: float) -> list[str]:
    bars = [f"+target.cpu-auto.budget.{key}={value}" for key, value in budget.items()]
    return ["target=[cpu-auto]", *LIGHT, f"+target.cpu-auto.candidates={{{candidates}}}", *bars]


def _frontier(work: Workplace) -> dict[str, Any]:
    return read_frontier(work.root / "outputs/tiny/choose-cpu-auto")


def _hashes(work: Workplace, stage: str) -> dict[str, str]:
    folder = work.root / "outputs" / "tiny" / stage
    files = artifact.verify(folder)["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def test_the_smallest_is_chosen_and_is_the_target_s_export(work: Workplace) -> None:
    work.run("run", "tiny", *_words())
    found = _frontier(work)
    assert [each["name"] for each in found["candidates"]] == ["small", "middle"]
    assert found["chosen"] == "small"
    small, middle = found["candidates"]
    assert small["size_bytes"] < middle["size_bytes"] < found["torch"]["size_bytes"]
    assert small["drop"] <= 0.03
    assert small["tokens_per_second"] is None
    assert _hashes(work, "export-cpu-auto") == _hashes(work, "candidate-cpu-auto-small")
    info = artifact.read_manifest(work.root / "outputs/tiny/export-cpu-auto")["info"]
    assert (info["precision"], info["chosen"]) == ("int4", "small")
    # No second copy of the weights.
    weights = [
        work.root / "outputs" / "tiny" / stage / "model.onnx.data"
        for stage in ("export-cpu-auto", "candidate-cpu-auto-small")
    ]
    assert weights[0].stat().st_ino == weights[1].stat().st_ino
    # What was chosen is confirmed on the test split.
    assert work.metrics("cpu-auto")["exact_match"] >= 0.9
    assert work.metrics("choose-cpu-auto")["chosen"] == "small"
    page = (work.root / "outputs/tiny/report/report.html").read_text(encoding="utf-8")
    assert found["reason"].replace("'", "&#x27;") in page
    assert 'class="place chosen"' in page
    card = (work.root / "outputs/tiny/report/cards/cpu-auto/README.md").read_text(encoding="utf-8")
    assert "- int4" in card
    assert found["reason"] in work.run("show", "tiny").stdout
    work.run("package", "tiny", "--target", "cpu-auto")
    assert (work.root / "tiny-cpu-auto.zip").is_file()
    assert {"candidate-cpu-auto-small", "measure-torch-256", "choose-cpu-auto"} <= work.ran()


def test_another_budget_builds_and_measures_nothing_again(work: Workplace) -> None:
    size = _frontier(work)["candidates"][0]["size_bytes"] / 1e6
    work.run("run", "tiny", *_words(max_size=size + 0.01, max_drop=0.05))
    assert _frontier(work)["chosen"] == "small"
    ran = work.ran()
    assert ran - SHOWING <= {"choose-cpu-auto", "export-cpu-auto", "answer-cpu-auto", "score"}
    assert "choose-cpu-auto" in ran


def test_one_more_candidate_is_all_that_is_built_and_measured(work: Workplace) -> None:
    three = f"{TWO}, tiny: {{precision: int4, int4_algo_config: rtn, int4_is_symmetric: false}}"
    work.run("run", "tiny", *_words(three))
    ran = work.ran()
    built = {name for name in ran if name.startswith(("candidate-", "measure-"))}
    assert built == {"candidate-cpu-auto-tiny", "measure-cpu-auto-tiny"}
    assert {each["name"] for each in _frontier(work)["candidates"]} == {"small", "middle", "tiny"}


def test_where_none_holds_each_says_what_it_misses_and_nothing_is_written(work: Workplace) -> None:
    work.run("run", "tiny", *_words())
    before = _hashes(work, "export-cpu-auto"), _frontier(work)
    work.ran()
    # More than the weights have by the model's shapes, less than the folder.
    done = work.run("run", "tiny", *_words(max_size=0.1), code=3)
    said = done.stdout + done.stderr
    assert "none of 2 candidates holds its budget" in said
    size = before[1]["candidates"][0]["size_bytes"] / 1e6
    assert f"small: {size:.1f} MB, {size - 0.1:.1f} more than max_size 0.1" in said
    assert "middle: " in said
    assert not [path for path in (work.root / "outputs/tiny").iterdir() if ".part" in path.name]
    work.run("run", "tiny", *_words())
    assert (_hashes(work, "export-cpu-auto"), _frontier(work)) == before
    assert not {name for name in work.ran() if name.startswith(("candidate-", "measure-"))}


def test_a_choice_that_is_killed_leaves_the_earlier_one_or_none(work: Workplace) -> None:
    project = Project(work.root)
    sync(project, [compile_recipe(project, "tiny", _words(max_drop=0.5))])
    folder = work.root / "outputs/tiny/choose-cpu-auto"
    before = _frontier(work)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal\n"
            "from pathlib import Path\n"
            "from slmcompile.recipe.project import Project\n"
            "from slmcompile.stages import choose\n"
            "from slmcompile.stages.runner import execute\n"
            "choose._comparable = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "execute(Project(Path.cwd()), 'pipelines/tiny/plan/choose-cpu-auto.json')\n",
        ],
        cwd=work.root,
        env=environment(),
        check=False,
    )
    assert killed.returncode == -9
    assert read_frontier(folder) == before
    assert artifact.verify(folder)["kind"] == "choose"
    work.run("run", "tiny", *_words(max_drop=0.5))
    assert _frontier(work)["budget"]["max_drop"] == 0.5
    assert not (folder.parent / ".choose-cpu-auto.part").exists()


def test_a_bar_on_speed_measures_it_and_says_on_what(work: Workplace) -> None:
    shown = work.run("plan", "tiny", *_words(min_tokens_per_s=0.001)).stdout
    assert "a measurement of the machine that runs it" in shown
    work.ran()
    work.run("run", "tiny", *_words(min_tokens_per_s=0.001))
    assert not {name for name in work.ran() if name.startswith("candidate-")}
    found = _frontier(work)
    assert all(each["tokens_per_second"] > 0 for each in found["candidates"])
    assert found["machine"]
    assert "tokens_per_second" not in json.dumps(work.metrics("choose-cpu-auto"))


def test_the_plan_says_what_is_asked_and_what_each_candidate_costs(work: Workplace) -> None:
    told = json.loads(work.run("plan", "tiny", *_words(), "--json").stdout)["choices"]
    (choice,) = told
    assert choice["budget"]["metric"] == "exact_match"
    assert choice["budget"]["max_drop"] == 0.03
    small = next(each for each in choice["candidates"] if each["name"] == "small")
    assert 0.05 < small["weights_mb"] < 0.12
    assert small["seconds"] > 0
    low, high = small["memory_bytes"]
    assert 0 < low < high
