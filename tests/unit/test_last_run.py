"""What lies here is told as what it is: of which model, with which overrides, passed or failed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from slmcompile.cli import generate as talk
from slmcompile.cli import show as showing
from slmcompile.cli.main import main
from slmcompile.console.errors import Exit, GateFailedError, MissingError, SlmcompileError
from slmcompile.drift.look import drift
from slmcompile.execution.committed import outdated, read_committed
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.explain.results import ArtifactResult, results_table
from slmcompile.explain.why import explain
from slmcompile.explain.why_text import explain_text
from slmcompile.files.artifact import write_manifest
from slmcompile.recipe.project import Project
from slmcompile.scoring.compared import agreement, comparisons
from slmcompile.stages.scores import COMPARISONS, METRICS_FILE
from slmcompile.state.changes import changes
from slmcompile.state.failure import write_failure
from tests.pretend import pretend_run
from tests.projects import make_project

LR = "train.learning_rate=5e-4"
GATES = "gates=[{metric: exact_match, min: 0.95},{metric: exact_match, max: 0.99}]"
TARGETS = "target=[cpu-int8,cpu-fp32,cpu-int4]"


def look(project: Project) -> showing.Shown:
    """What ``show`` says of the tiny recipe."""
    return showing.look(project, "tiny")[""]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    (root / "recipes" / "quickstart.yaml").unlink()
    monkeypatch.chdir(root)
    return Project(root)


def ran(project: Project, *overrides: str, exact_match: float = 0.9) -> None:
    """As if the recipe had run, with figures where ``show`` reads them."""
    plan = compile_recipe(project, "tiny", overrides)
    pretend_run(project, plan, exact_match)
    scored(project, {stage.artifact: {"exact_match": exact_match} for stage in plan.of("answer")})


def scored(
    project: Project,
    figures: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, list[dict[str, Any]]] = {},
) -> None:
    """Leaves what the ``score`` stage writes of figures and rows of answers."""
    folder = project.root / "outputs" / "tiny" / "score"
    exports = [name for name in figures if name.startswith("cpu")]
    shown = {name: dict(values) for name, values in figures.items()}
    for name in exports:
        same = agreement(answers.get(name, ()), answers.get("torch", ()))
        shown[name] |= {} if same is None else {"agreement": same}
    (folder / METRICS_FILE).write_text(json.dumps({"artifacts": shown}), encoding="utf-8")
    found = [asdict(each) for each in comparisons(figures, answers, exports)]
    (folder / COMPARISONS).write_text(json.dumps({"comparisons": found}), encoding="utf-8")


def trained_anew(project: Project) -> None:
    """What ``run --select train`` leaves: another model, and all behind it as it was."""
    path = project.pipelines / "tiny" / "dvc.lock"
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    for out in lock["stages"]["train"]["outs"]:
        out["md5"] = "0" * 32 + (".dir" if out["md5"].endswith(".dir") else "")
    path.write_text(yaml.safe_dump(lock), encoding="utf-8")


# --- overrides of the last run ---------------------------------------------------------------


def test_overrides_that_a_run_left_stop_a_check_and_are_drift(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(project)
    assert main(["sync", "--all", "--check"]) == Exit.DONE
    ran(project, LR)
    capsys.readouterr()
    assert main(["sync", "--all", "--check"]) == Exit.STALE
    said = capsys.readouterr().err
    assert f"error: pipelines/tiny/overrides.yaml: holds {LR} of the last run\n" in said
    assert f"`slmcompile run tiny {LR} --save-as NAME`" in said
    (found,) = (each for each in drift(project) if each.kind == "overrides")
    assert found.subject == "pipelines/tiny/overrides.yaml"
    assert LR in found.what
    assert "`slmcompile run tiny`" in found.mend
    ran(project)
    assert not [each for each in drift(project) if each.kind == "overrides"]


def test_a_plan_without_them_says_what_the_last_run_had(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(project, LR)
    for words in (["plan", "tiny"], ["why", "tiny"]):
        assert main(words) == Exit.DONE
        assert f"The last run was with {LR}; this is without." in capsys.readouterr().out
        assert main([*words, "--json"]) == Exit.DONE
        assert json.loads(capsys.readouterr().out)["last_overrides"] == [LR]
        assert main([*words, LR]) == Exit.DONE
        assert "The last run" not in capsys.readouterr().out


def test_show_and_the_reports_spec_carry_them(project: Project) -> None:
    ran(project, LR, "train.save_steps=7", "track=tensorboard")
    assert showing.text(showing.look(project, "tiny")).startswith(f"with {LR} ")
    report = compile_recipe(project, "tiny").stage("report")
    assert report.config["overrides"] == [LR], "of what can change no result it says nothing"


def test_whoever_asks_the_model_is_told_of_them(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "_load", lambda _export: None)
    monkeypatch.setattr(talk, "_answer", lambda *_given, **_named: None)
    for overrides, times in (((), 0), ((LR,), 1)):
        ran(project, *overrides)
        folder = project.root / "outputs" / "tiny" / "export-cpu-fp32"
        (folder / "prompt.json").write_text('{"columns": ["text"]}', encoding="utf-8")
        (folder / "model.onnx").write_bytes(b"a graph")
        write_manifest(folder, "export", {"execution_provider": "cpu"})
        talk.generate("tiny", None, ["hello"], 4)
        told = f"made with {LR}; `slmcompile run tiny` is without\n"
        assert capsys.readouterr().err.count(told) == times


def test_overrides_of_a_run_that_did_not_end_are_not_those_of_what_is_shown(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, killed or of a selection, it leaves them beside what an earlier run has made."""
    monkeypatch.setattr(talk, "_load", lambda _export: None)
    monkeypatch.setattr(talk, "_answer", lambda *_given, **_named: None)
    ran(project, "train.seed=4")
    folder = project.root / "outputs" / "tiny" / "export-cpu-fp32"
    (folder / "prompt.json").write_text('{"columns": ["text"]}', encoding="utf-8")
    (folder / "model.onnx").write_bytes(b"a graph")
    write_manifest(folder, "export", {"execution_provider": "cpu"})
    sync(project, [compile_recipe(project, "tiny", [LR])])
    shown = look(project)
    assert not shown.finished
    said = f"the last run was with {LR}, and not all of this was made with it\n"
    assert showing.text({"": shown}).startswith(said)
    talk.generate("tiny", None, ["hello"], 4)
    assert capsys.readouterr().err == (
        f"the last run was with {LR} and has not made this; `slmcompile run tiny {LR}` does\n"
    )


# --- figures of what is no longer there ------------------------------------------------------


def test_figures_of_an_earlier_model_are_marked(project: Project) -> None:
    ran(project)
    now = look(project)
    assert not now.words
    assert "of an earlier model" not in showing.text({"": now})
    trained_anew(project)
    shown = look(project)
    assert shown.words == {"torch": "of an earlier model", "cpu-fp32": "of an earlier model"}
    (line,) = (
        each for each in showing.text({"": shown}).split("\n") if each.startswith("cpu-fp32")
    )
    assert line.endswith("outputs/tiny/export-cpu-fp32  (of an earlier model)")
    document = showing.to_json({"": shown})
    assert document["artifacts"]["cpu-fp32"]["outdated"] == ["tiny/train"]
    assert document["artifacts"]["base"]["outdated"] == []
    behind = outdated(project, read_committed(project, "tiny"))
    assert behind["tiny/export-cpu-fp32"] == {"base": (), "data": (), "train": ("tiny/train",)}
    assert behind["tiny/train"] == {"base": (), "data": ()}


def test_an_edit_since_is_said_and_marks_no_row(project: Project) -> None:
    ran(project)
    recipe = project.recipes / "tiny.yaml"
    recipe.write_text(recipe.read_text() + "train: {seed: 5}\n", encoding="utf-8")
    shown = look(project)
    assert not shown.words
    assert shown.changed == "the recipe has changed since: train.seed 0 → 5"
    assert shown.changed in showing.text({"": shown})


def test_what_was_made_is_shown_where_its_sources_have_moved(project: Project) -> None:
    ran(project, TARGETS)
    before = look(project)
    shutil.move(project.root / "data" / "tiny", project.root / "data" / "elsewhere")
    after = look(project)
    assert after.results == before.results
    assert after.changed.startswith("the recipe cannot be compiled now: ")
    assert "no such file" in after.changed
    (project.recipes / "tiny.yaml").write_text("broken: [", encoding="utf-8")
    assert look(project).results == before.results


def test_exports_are_listed_in_the_recipes_order(project: Project) -> None:
    ran(project, TARGETS)
    assert read_committed(project, "tiny").targets == ("cpu-int8", "cpu-fp32", "cpu-int4")
    names = [result.name for result in look(project).results]
    assert names == ["baselines", "base", "torch", "cpu-int8", "cpu-fp32", "cpu-int4"]


def test_a_recipe_that_never_ran_says_so(project: Project) -> None:
    with pytest.raises(MissingError, match="tiny: never ran here"):
        read_committed(project, "tiny")
    with pytest.raises(SlmcompileError, match="recipes are tiny"):
        read_committed(project, "tyni")


@pytest.mark.parametrize(
    "change",
    [
        {"out": "../elsewhere"},
        {"out": "/etc"},
        {"inputs": {"data": "/etc/passwd"}},
        {"stage": 5},
    ],
)
def test_a_spec_of_a_stranger_leads_nowhere(project: Project, change: dict[str, object]) -> None:
    ran(project)
    path = project.pipelines / "tiny" / "plan" / "answer-torch.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    paths = {result.name: result.path for result in look(project).results}
    assert paths["torch"] is None
    assert paths["cpu-fp32"] == "outputs/tiny/export-cpu-fp32"
    path = path.with_name("score.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(MissingError, match="nothing was measured"):
        look(project)


# --- gates -----------------------------------------------------------------------------------


def test_show_judges_the_gates(project: Project) -> None:
    ran(project, GATES)
    lines = showing.text(showing.look(project, "tiny")).split("\n")
    assert "  ✗ gate: exact_match of torch is 0.9, bar ≥ 0.95" in lines
    assert "  ✓ gate: exact_match of torch is 0.9, bar ≤ 0.99" in lines
    scored(project, {"cpu-fp32": {"exact_match": 0.9}})
    shown = look(project)
    assert shown.verdicts == ()
    assert "  ? gate: exact_match of torch is not measured" in showing.text({"": shown}).split("\n")


# --- what the figures say --------------------------------------------------------------------


def measured(project: Project, *, cut: int = 0, rows: int = 120, **rights: int) -> None:
    """Leaves figures and answers of artifacts of which so many are right and so many cut off."""
    named = {name.replace("_", "-"): right for name, right in rights.items()}
    figures = {
        name: {
            "exact_match": right / rows, "cut_off": cut / rows,
            "rows": rows, "test_rows": 480, "labels": 12, "test_labels": 12,
        }
        for name, right in named.items()
    }  # fmt: skip
    answers = {
        name: [
            {
                "id": n, "correct": n < right, "cut_off": n >= rows - cut,
                "compared": "yes" if n < right else "no",
            }
            for n in range(rows)
        ]
        for name, right in named.items()
    }  # fmt: skip
    scored(project, figures, answers)


def test_show_says_what_the_figures_say_and_of_which_rows(project: Project) -> None:
    ran(project, "gates=[{metric: exact_match, artifact: cpu-fp32, max_drop: 0.5}]")
    measured(project, torch=108, cpu_fp32=100, base=0, baselines=1)
    shown = look(project)
    said = showing.text({"": shown}).split("\n")
    assert (
        "measured on 120 of 480 test rows, 12 labels (each label once, then by frequency)" in said
    )
    assert "cut off" not in "".join(said)
    assert (
        "  ! cpu-fp32 loses 0.067 of exact match against the fine-tuned model (0.833 against 0.900;"
        " 0 rows only cpu-fp32 has right, 8 only the fine-tuned model, p = .008)."
    ) in said
    (gate,) = (line for line in said if "gate:" in line)
    assert gate.startswith("  ✓ gate: exact_match of cpu-fp32 is 0.8333, bar within 0.5 of torch's")
    assert "row by row -0.067 (95 %: -0." in gate
    document = showing.to_json({"": shown})
    assert document["artifacts"]["cpu-fp32"]["agreement"] == pytest.approx(112 / 120)
    (pair,) = [
        each
        for each in document["comparisons"]
        if each["one"] == "cpu-fp32" and each["metric"] == "exact_match"
    ]
    assert (pair["difference"]["only_one"], pair["difference"]["only_other"]) == (0, 8)


def test_show_says_first_that_answers_were_cut_off(project: Project) -> None:
    ran(project)
    measured(project, torch=100, cut=11)
    said = showing.text(showing.look(project, "tiny"))
    assert "cut off" in said
    assert "0.092" in said
    (first, *_) = (line for line in said.split("\n") if line.startswith("  ! "))
    assert first.startswith("  ! torch: 11 of 120 answers ended at the limit of ")


def test_what_nothing_is_measured_of_is_no_row_of_dashes() -> None:
    table = results_table([
        ArtifactResult("tf-idf", {"rows": 10}, None),
        ArtifactResult("torch", {"rows": 10, "perplexity": 1.2}, "outputs/tiny/train"),
    ])  # fmt: skip
    assert "torch" in table
    assert "tf-idf" not in table


def test_figures_of_two_models_are_not_compared(project: Project) -> None:
    ran(project)
    measured(project, torch=100, cpu_fp32=60, base=100)
    trained_anew(project)
    shown = look(project)
    assert shown.comparisons == ()
    assert shown.findings == ()


def failed(project: Project, name: str, *overrides: str) -> list[tuple[str, str]]:
    found = changes(project, compile_recipe(project, "tiny", overrides))
    change = next(each for each in found if each.stage.name == name)
    return [(reason.cause, reason.sentence()) for reason in change.reasons]


def fail(project: Project, name: str, *overrides: str, by: Exception | None = None) -> None:
    """As if everything had run and then one stage had failed."""
    ran(project, *overrides)
    for stage in compile_recipe(project, "tiny", overrides).stages():
        manifest = project.root / stage.out / "made"
        if manifest.is_file():  # the pretended outputs have none
            manifest.rename(manifest.with_name("manifest.json"))
    for path in (project.root / ".dvc" / "cache").rglob("*.dir"):
        path.write_text(path.read_text().replace('"made"', '"manifest.json"'))
    lock = project.pipelines / "tiny" / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    del content["stages"][name]
    lock.write_text(yaml.safe_dump(content))
    shutil.rmtree(project.root / "outputs" / "gates" / "tiny")
    error = GateFailedError("1 of 2 gates failed: exact_match is low", "train better")
    write_failure(project, f"tiny/{name}", by or error)


def test_a_gate_that_failed_here_is_not_said_to_have_never_run(project: Project) -> None:
    fail(project, "gate", GATES)
    assert failed(project, "gate", GATES) == [
        ("failed", "failed here: 1 of 2 gates failed: exact_match is low")
    ]
    plan = compile_recipe(project, "tiny", [GATES])
    text = explain_text(explain(project, plan, plan.own.stages[-1]))
    assert "tiny/gate: failed here: 1 of 2 gates failed: exact_match is low\n" in text
    assert "mend: train better" in text


def test_another_bar_or_another_model_has_not_failed(project: Project) -> None:
    fail(project, "gate", GATES)
    assert "failed" not in dict(failed(project, "gate", "gates=[{metric: accuracy, min: 0.5}]"))
    assert "failed" not in dict(failed(project, "gate", GATES, LR))
    measured = project.root / "outputs" / "tiny" / "score" / "manifest.json"
    record = next((project.scratch / "failures").iterdir())
    told = json.loads(record.read_text())
    assert told["read"]["outputs/tiny/score"]
    told["read"]["outputs/tiny/score"] = "0" * 32
    record.write_text(json.dumps(told))
    assert measured.is_file()
    assert "failed" not in dict(failed(project, "gate", GATES))


def test_a_bug_of_ours_says_where_its_traceback_is(project: Project) -> None:
    fail(project, "gate", GATES, by=TypeError("no such argument"))
    plan = compile_recipe(project, "tiny", [GATES])
    text = explain_text(explain(project, plan, plan.own.stages[-1]))
    assert "failed here: TypeError('no such argument')" in text
    assert "mend: this is a bug in slmcompile; please report the traceback, in .slmc" in text
