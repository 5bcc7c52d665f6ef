"""``diff`` and ``plan --against``: keys, stages, fingerprints and metrics that differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmcompile.cli.main import main
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.diff import Difference, side_of
from slmcompile.explain.diff_text import diff_text
from slmcompile.explain.sides import diff
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache, md5_file, read_lock
from tests.pretend import pretend_run
from tests.projects import commit, make_repository


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = Project(make_repository(tmp_path_factory.mktemp("two").resolve()))
    pretend_run(project, compile_recipe(project, "tiny", ()), exact_match=0.9)
    commit(project.root, "ran")
    recipe = project.recipes / "tiny.yaml"
    text = recipe.read_text(encoding="utf-8") + "train: {learning_rate: 1e-4}\n"
    recipe.write_text(text, encoding="utf-8")
    commit(project.root, "slower")
    return project.root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two commits: one where the recipe ran, one with another learning rate."""
    project = Project(shutil.copytree(template, tmp_path.resolve() / "project"))
    monkeypatch.chdir(project.root)
    return project


def statuses(difference: Difference) -> dict[str, str]:
    return {stage.name: stage.status for stage in difference.stages}


def test_two_revisions_differ_by_key_stage_and_fingerprint(project: Project) -> None:
    difference = diff(project, ("tiny@HEAD~1", "tiny"))
    (key,) = difference.keys
    assert (key.key, key.old, key.new) == ("train.learning_rate", 0.005, 1e-4)
    assert key.old_where.startswith("conf/train/tiny.yaml:")
    assert key.new_where.startswith("recipes/tiny.yaml:")
    status = statuses(difference)
    assert status["base"] == status["data"] == status["answer-baselines"] == "same"
    assert status["train"] == status["answer-torch"] == status["gate"] == "changed"
    by_name = {stage.name: stage for stage in difference.stages}
    assert [reason.subject for reason in by_name["train"].reasons] == ["train.learning_rate"]
    assert by_name["export-cpu-fp32"].reasons == ()
    assert by_name["export-cpu-fp32"].inputs == ("train",)
    assert by_name["train"].old != by_name["train"].new
    assert diff(project, ("tiny@HEAD", "tiny")).any is False
    assert "No key and no stage differs." in diff_text(diff(project, ("tiny@HEAD", "tiny")))


def test_metrics_are_compared_where_both_have_run_and_only_there(project: Project) -> None:
    before = diff(project, ("tiny@HEAD~1", "tiny"))
    assert before.metrics == ()
    assert "measured for another plan" in diff_text(before)
    assert set(before.new.metrics) == {"base", "baselines"}  # no learning rate in them
    pretend_run(project, compile_recipe(project, "tiny", ()), exact_match=0.8)
    after = diff(project, ("tiny@HEAD~1", "tiny"))
    found = {(each.artifact, each.metric): (each.old, each.new) for each in after.metrics}
    assert found["torch", "exact_match"] == (0.9, 0.8)
    assert "0.9 → 0.8" in diff_text(after)


def test_metrics_that_were_edited_by_hand_are_not_compared(project: Project) -> None:
    path = project.pipelines / "tiny/metrics/base.json"
    path.write_text('{"exact_match": 1.0}', encoding="utf-8")
    assert "base" not in diff(project, ("tiny@HEAD~1", "tiny")).new.metrics
    path.write_text("[[[", encoding="utf-8")
    assert "base" not in diff(project, ("tiny@HEAD~1", "tiny")).new.metrics


@pytest.mark.parametrize("value", ["1e400", "NaN", "1" + "0" * 400, '"0.9"', "[" * 40 + "]" * 40])
def test_metrics_that_are_no_finite_number_are_not_compared(project: Project, value: str) -> None:
    """The author of a pull request writes metrics and lock file alike."""
    path, lock = (project.pipelines / "tiny" / name for name in ("metrics/base.json", "dvc.lock"))
    old = md5_file(path)
    path.write_text(f'{{"exact_match": {value}}}', encoding="utf-8")
    lock.write_text(lock.read_text(encoding="utf-8").replace(str(old), str(md5_file(path))))
    found = diff(project, ("tiny@HEAD~1", "tiny"))
    assert found.new.metrics["base"] == {}
    assert "exact_match" not in diff_text(found)


def test_recipe_against_recipe_adds_and_removes_stages(project: Project) -> None:
    difference = diff(project, ("tiny", "quickstart"))
    status = statuses(difference)
    assert status["export-cpu-int4"] == "added"
    assert status["train"] == "changed"
    assert statuses(diff(project, ("quickstart", "tiny")))["export-cpu-int4"] == "removed"


def test_a_changed_data_file_is_named_with_both_hashes(project: Project) -> None:
    data = project.root / "data/tiny/commands.jsonl"
    data.write_bytes(data.read_bytes() + b"\n")
    stages = {stage.name: stage for stage in diff(project, ("tiny@HEAD", "tiny")).stages}
    (reason,) = stages["data"].reasons
    assert reason.subject == "data/tiny/commands.jsonl"
    assert reason.old != reason.new
    assert stages["data"].inputs == ("base",)  # its tokenizer is trained on the same file


def test_two_plan_files_and_a_recipe_compare(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "tiny", "--out", "one.json"]) == 0
    assert main(["plan", "tiny", "eval.limit=5", "--out", "two.json"]) == 0
    capsys.readouterr()
    assert main(["diff", "one.json", "two.json", "--json", "--detailed-exitcode"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert [key["key"] for key in told["keys"]] == ["eval.limit"]
    assert told["format_version"] == "1.0"
    assert main(["diff", "one.json", "tiny", "--detailed-exitcode"]) == 0
    assert main(["diff", "one.json", "two.json"]) == 0


def against(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", "tiny", "--json", "--detailed-exitcode", *words]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)["against"]
    return told


def test_plan_against_a_revision_says_which_stages_differ_and_by_which_keys(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    told = against(capsys, 2, "--against", "HEAD~1")
    assert [key["key"] for key in told["keys"]] == ["train.learning_rate"]
    # Everything would run here, and yet nothing differs: the question was what differs.
    assert against(capsys, 0, "--against", "HEAD")["differ"] is False
    assert against(capsys, 2, "--against", "HEAD", "train.seed=3")["differ"] is True
    assert main(["plan", "tiny", "--against", "HEAD~1"]) == 0
    assert "train.learning_rate  0.005 → 0.0001" in capsys.readouterr().out
    assert main(["plan", "tiny", "--against=--help"]) == 64


def test_a_recipe_that_is_new_since_the_revision_is_all_added(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.recipes / "new.yaml").write_text("defaults: [tiny, _self_]\n", encoding="utf-8")
    assert main(["plan", "new", "--against", "HEAD", "--detailed-exitcode"]) == 2
    assert "there was no recipe new yet" in capsys.readouterr().out
    assert main(["diff", "new@HEAD", "new"]) == 64


def test_nothing_that_a_terminal_would_obey_is_printed(project: Project) -> None:
    recipe = project.recipes / "tiny.yaml"
    added = 'data: {template: {prompt: "{text}\\e[2J\\u202e"}, columns: {"a": "b\\e[31m"}}\n'
    recipe.write_text(recipe.read_text(encoding="utf-8") + added, encoding="utf-8")
    text = diff_text(diff(project, ("tiny@HEAD", "tiny")))
    assert "data.template.prompt" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def several(project: Project, *names: str) -> None:
    """A recipe of adapters, each on its own split of the rows, which has run and is committed."""
    group = project.root / "conf/adapter/commands.yaml"
    group.parent.mkdir(exist_ok=True)
    group.write_text("defaults: [{/data: tiny-commands}, {/eval: structured}]\n")
    (project.recipes / "several.yaml").write_text(
        "defaults:\n  - model: tiny-llama\n  - train: tiny\n"
        + "".join(f"  - adapter@adapters.{name}: commands\n" for name in names)
        + "  - target: [cpu-fp32]\n  - _self_\n"
        + "adapters: {one: {data: {seed: 3}, eval: {max_new_tokens: 8}}}\n",
        encoding="utf-8",
    )
    pretend_run(project, compile_recipe(project, "several", ()), exact_match=len(names) / 10)
    commit(project.root, " ".join(names))


def test_of_adapters_stages_and_metrics_are_compared_under_the_name_of_each(
    project: Project,
) -> None:
    several(project, "one", "two")
    several(project, "two", "one", "three")
    difference = diff(project, ("several@HEAD~1", "several"))
    status = statuses(difference)
    # Each has data of its own, and all of these stages are called data.
    assert status["data--one"] == status["data--two"] == "same"
    assert status["data--three"] == status["answer-torch--three"] == "added"
    assert status["export-cpu-fp32--one"] == "same"
    assert status["base"] == "same"
    assert status["train"] == status["score"] == "changed"
    assert "adapter three joins" in diff_text(difference)
    left = diff(project, ("several", "several@HEAD~1"))
    (reason,) = next(stage.reasons for stage in left.stages if stage.name == "score")
    assert (reason.subject, reason.sentence()) == ("adapters.three", "adapter three leaves")
    found = {(each.artifact, each.metric): (each.old, each.new) for each in difference.metrics}
    assert found["one: torch", "exact_match"] == found["two: base", "exact_match"] == (0.2, 0.3)
    assert not any(artifact.startswith("three") for artifact, _ in found)
    assert difference.new.metrics["three: cpu-fp32"] == {"exact_match": 0.3}


def test_an_adapter_s_metrics_count_while_it_is_the_one_that_was_trained(project: Project) -> None:
    several(project, "one", "two")
    plan = compile_recipe(project, "several", ())
    lock = project.pipelines / "several/dvc.lock"
    cache, whole = Cache(project), plan.stage("train").out
    (md5,) = {
        locked.outs[whole]
        for locked in read_lock(project, "several").values()
        if whole in locked.outs
    }
    part = cache.part(md5, "adapters/one")
    lock.write_text(lock.read_text(encoding="utf-8").replace(str(part), "0" * 32 + ".dir"))
    measured = diff(project, ("several@HEAD", "several")).new.metrics
    assert "two: torch" in measured
    assert not {"one: torch", "one: cpu-fp32"} & measured.keys()


def test_a_saved_plan_of_adapters_is_the_plan(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    several(project, "one", "two")
    assert main(["plan", "several", "--out", "one.json"]) == 0
    assert main(["diff", "one.json", "several", "--detailed-exitcode"]) == 0
    assert main(["plan", "several", "--against", "HEAD"]) == 0
    assert "No key and no stage differs." in capsys.readouterr().out


def test_an_adapter_that_leaves_or_joins_is_what_plan_and_why_say(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    several(project, "one", "two", "three")
    recipe = project.recipes / "several.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("  - adapter@adapters.three: commands\n", ""), encoding="utf-8")
    assert main(["plan", "several"]) == main(["why", "several/score"]) == 0
    told = capsys.readouterr().out
    score = next(line for line in told.splitlines() if "several/score" in line)
    assert score.partition("will score")[2].split(", ")[0].strip() == "adapter three leaves"
    assert "not to run: put adapter@adapters.three back (recipes/several.yaml)" in told
    assert "null" not in told


def test_what_adapters_have_in_common_stands_once(project: Project) -> None:
    several(project, "one", "two")
    over = compile_recipe(project, "several", ["train.over=cpu-int4", "target=[cpu-int4]"])
    shared = [name for name in side_of("over", over).stages if name.startswith(("base", "quant"))]
    assert shared == ["base", "quantize-cpu-int4"]
