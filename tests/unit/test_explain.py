"""``why``: from what somebody changed, through the stages, to the one that would run."""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from slmcompile import api
from slmcompile.cli.main import main
from slmcompile.data_steps import DATA_STEPS
from slmcompile.execution import sync as sync_module
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.explain.selection import find_stage
from slmcompile.explain.why import Explanation, RootCause, explain, to_json
from slmcompile.explain.why_text import explain_text
from slmcompile.facts import gather
from slmcompile.files.memo import Remembered
from slmcompile.machine.device import Device
from slmcompile.methods import METHODS
from slmcompile.metrics import METRICS
from slmcompile.optimizers import OPTIMIZERS
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.policy import FILE
from slmcompile.recipe.project import Project
from slmcompile.registry.table import Table
from slmcompile.sources import DATA_SOURCES, MODEL_SOURCES
from slmcompile.state.changes import Change, changes
from tests.pretend import pretend_run
from tests.projects import commit, make_project, make_repository
from tests.tables import raise_epoch


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = Project(make_project(tmp_path_factory.mktemp("ran").resolve(), data=("tiny",)))
    pretend_run(project, compile_recipe(project, "tiny", ()))
    return project.root


@pytest.fixture
def ran(template: Path, tmp_path: Path) -> Project:
    """The tiny recipe in a folder without git, as a run leaves it."""
    return Project(shutil.copytree(template, tmp_path.resolve() / "project"))


def why(project: Project, stage: str | None, *overrides: str) -> Explanation:
    plan = compile_recipe(project, "tiny", overrides)
    return explain(project, plan, find_stage(plan, stage) if stage else None)


def only(explanation: Explanation) -> RootCause:
    (cause,) = explanation.causes
    return cause


def names(addresses: tuple[str, ...]) -> list[str]:
    return [address.rpartition("/")[2] for address in addresses]


def not_unchanged(project: Project) -> dict[str, str]:
    planned = api.plan("tiny", project=project.root)
    return {c.stage.name: c.action for c in planned.changes if c.action != "unchanged"}


def test_another_policy_is_a_cause_of_check_alone(ran: Project) -> None:
    policy = ran.root / FILE
    text = policy.read_text(encoding="utf-8")
    before = compile_recipe(ran, "tiny", ())
    policy.write_text(text.replace("max_bytes: null", "max_bytes: 100000000"), encoding="utf-8")
    assert not_unchanged(ran) == {"check": "run"}
    cause = only(why(ran, None))
    assert (cause.reason.cause, cause.reason.subject) == ("file", FILE)
    assert names(cause.reaches) == ["check"]
    assert why(ran, "train").action == "unchanged"
    after = compile_recipe(ran, "tiny", ())
    moved = {
        address.rpartition("/")[2]
        for address, fingerprint in after.fingerprints().items()
        if before.fingerprints()[address] != fingerprint
    }
    assert (moved, after.plan_id) == ({"check"}, before.plan_id)
    policy.write_text(text, encoding="utf-8")
    assert not_unchanged(ran) == {}


def test_the_first_policy_of_a_project_is_one_too(ran: Project) -> None:
    policy = ran.root / FILE
    text = policy.read_text(encoding="utf-8")
    policy.unlink()
    without = compile_recipe(ran, "tiny", ())
    assert FILE not in without.stage("check").deps
    pretend_run(ran, without)
    assert not_unchanged(ran) == {}
    policy.write_text(text, encoding="utf-8")
    assert not_unchanged(ran) == {"check": "run"}


def test_another_machine_is_no_cause(ran: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage writes cannot tell of it; the rules judge by it anew, before anything runs."""
    small = Device(memory_bytes=10**9, disk_bytes=10**10, cpu_flags=frozenset())
    monkeypatch.setattr(gather, "detect", lambda _: small)
    assert not_unchanged(ran) == {}


def test_an_unchanged_stage_says_so_and_what_it_last_ran_from(ran: Project) -> None:
    explanation = why(ran, "train")
    assert explanation.action == "unchanged"
    assert explanation.causes == ()
    assert explanation.last_run is not None
    assert explanation.last_run.packages["peft"] == version("peft")
    text = explain_text(explanation)
    assert "tiny/train is unchanged. It last ran from" in text
    assert explanation.last_run.spec in text
    assert "wrote     outputs/tiny/train" in text


def test_a_key_is_followed_through_the_stages_with_old_value_new_value_and_place(
    ran: Project,
) -> None:
    recipe = ran.recipes / "tiny.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text + "train: {learning_rate: 1e-4}\n", encoding="utf-8")
    cause = only(why(ran, "answer-cpu-fp32"))
    assert (cause.reason.subject, cause.reason.old, cause.reason.new) == (
        "train.learning_rate", 0.005, 1e-4,
    )  # fmt: skip
    line = text.count("\n") + 1
    assert cause.reason.where == f"recipes/tiny.yaml:{line}"
    assert names(cause.stages) == ["train", "export-cpu-fp32", "answer-cpu-fp32"]
    assert cause.undo == f"set train.learning_rate back to 0.005 (recipes/tiny.yaml:{line})"


def test_a_data_key_is_named_although_the_data_stage_moved_to_another_folder(ran: Project) -> None:
    cause = only(why(ran, "answer-torch", "data.max_length=48"))
    assert (cause.reason.subject, cause.reason.old, cause.reason.new) == ("data.max_length", 64, 48)
    assert names(cause.stages) == ["data", "answer-torch"]
    assert "override data.max_length=48" in cause.undo


def test_a_data_key_is_named_although_its_folder_has_run_before(ran: Project) -> None:
    pretend_run(ran, compile_recipe(ran, "tiny", ["data.max_length=48"]))
    cause = only(why(ran, "train"))
    assert (cause.reason.subject, cause.reason.old, cause.reason.new) == ("data.max_length", 48, 64)
    assert names(cause.stages) == ["data", "train"]


def test_a_model_key_is_followed_through_base_and_data(ran: Project) -> None:
    cause = only(why(ran, "answer-baselines", "model.source.hidden_size=32"))
    assert cause.reason.subject == "model.source.hidden_size"
    assert names(cause.stages) == ["base", "data", "answer-baselines"]


def test_a_data_file_is_named_with_old_and_new_hash(ran: Project) -> None:
    data = ran.root / "data/tiny/commands.jsonl"
    data.write_bytes(data.read_bytes() + b"\n")
    causes = [cause for cause in why(ran, "train").causes if cause.reason.cause == "file"]
    cause = causes[0]
    assert cause.reason.subject == "data/tiny/commands.jsonl"
    assert cause.reason.old != cause.reason.new
    assert f"MD5 {cause.reason.old} → {cause.reason.new}" in explain_text(why(ran, "train"))


def test_the_revision_that_has_the_old_bytes_is_named(tmp_path: Path) -> None:
    project = Project(make_repository(tmp_path.resolve()))
    pretend_run(project, compile_recipe(project, "tiny", ()))
    data = project.root / "data/tiny/commands.jsonl"
    before = data.read_bytes()
    data.write_bytes(before + b"\n")
    commit(project.root, "more rows")
    undo = next(c.undo for c in why(project, "data").causes if c.reason.cause == "file")
    assert undo.startswith("`git checkout ")
    assert os.system(f"cd {project.root} && {undo.split('`')[1]}") == 0
    assert data.read_bytes() == before


def test_a_package_and_an_epoch_are_root_causes(
    ran: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slmcompile.plans.installed as installed

    known = installed._version
    monkeypatch.setattr(
        installed, "_version", lambda name, when: "9.9" if name == "peft" else known(name, when)
    )
    cause = only(why(ran, "report"))
    assert (cause.reason.cause, cause.reason.subject) == ("package", "peft")
    assert cause.reason.new == "9.9"
    assert cause.undo == f"install peft=={version('peft')}"
    monkeypatch.undo()
    now = raise_epoch(monkeypatch, "train")
    cause = only(why(ran, "answer-torch"))
    assert (cause.reason.cause, cause.reason.old, cause.reason.new) == ("epoch", now, now + 1)
    assert names(cause.stages) == ["train", "answer-torch"]


@pytest.mark.parametrize(
    ("override", "said", "undo"),
    [
        (
            "eval.base_model=false",
            "eval.base_model true → false",
            "set eval.base_model back to true",
        ),
        ("target=[cpu-fp32,cpu-int8]", "target.cpu-int8 null → {", "take cpu-int8 out of `target`"),
        ("target=[cpu-int8]", "target.cpu-fp32 {", "set target.cpu-fp32 back to {"),
    ],
)
def test_other_artifacts_are_told_by_the_key_that_asks_for_them(
    ran: Project, override: str, said: str, undo: str
) -> None:
    causes = {cause.reason.sentence(): cause for cause in why(ran, "score", override).causes}
    assert "its command changed" not in causes
    found = next(cause for sentence, cause in causes.items() if sentence.startswith(said))
    assert found.undo.startswith(undo)
    plain = {reason.subject for c in changes_of(ran, override) for reason in c.reasons}
    assert "folder" not in plain, "no folder is called so"


def changes_of(project: Project, *overrides: str) -> tuple[Change, ...]:
    return changes(project, compile_recipe(project, "tiny", overrides))


def test_another_epoch_of_a_data_step_prepares_again(
    ran: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = "data.steps=[{type: drop, column: label, values: [none]}]"
    pretend_run(ran, compile_recipe(ran, "tiny", [step]))
    # Another version of slmcompile is another process, which remembers no plan.
    monkeypatch.setattr(sync_module, "_plans", Remembered(most_bytes=0))
    raise_epoch(monkeypatch, "keep", DATA_STEPS)
    assert why(ran, "data", step).action == "unchanged"
    raise_epoch(monkeypatch, "drop", DATA_STEPS)
    cause = only(why(ran, "data", step))
    assert cause.reason.subject == "data step drop"


@pytest.mark.parametrize(("before", "after"), [("f1_macro", "f1_micro"), ("f1_micro", "f1_macro")])
def test_an_entry_that_a_recipe_begins_or_ends_to_use_has_not_changed(
    ran: Project, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    raise_epoch(monkeypatch, "f1_micro", METRICS)
    pretend_run(ran, compile_recipe(ran, "tiny", [f"eval.metrics=[{before}]"]))
    cause = only(why(ran, "score", f"eval.metrics=[{after}]"))
    assert cause.reason.sentence() == f'eval.metrics ["{before}"] → ["{after}"]'


@pytest.mark.parametrize(
    ("table", "entry", "stage"),
    [
        (MODEL_SOURCES, "random", "base"),
        (DATA_SOURCES, "file", "data"),
        (METHODS, "lora", "train"),
        (OPTIMIZERS, "adamw_torch", "train"),
        (PROVIDERS, "cpu", "export-cpu-fp32"),
        (METRICS, "exact_match", "score"),
    ],
)
def test_another_epoch_of_an_entry_reruns_the_stage_that_uses_it_and_says_so(
    ran: Project, monkeypatch: pytest.MonkeyPatch, table: Table[Any], entry: str, stage: str
) -> None:
    before = raise_epoch(monkeypatch, entry, table)
    cause = only(why(ran, stage))
    assert cause.reason.sentence() == (
        f"slmcompile's own code for {table.kind} {entry} changed (epoch {before} → {before + 1})"
    )


def test_a_missing_output_is_a_root_cause(ran: Project) -> None:
    shutil.rmtree(ran.root / "outputs/tiny/train")
    explanation = why(ran, "train")
    assert explanation.action == "restore"
    assert only(explanation).reason.subject == "outputs/tiny/train"
    assert why(ran, "answer-torch").action == "unchanged"


def test_a_fresh_clone_and_a_recipe_that_never_ran_are_told_in_one_line_each(ran: Project) -> None:
    shutil.rmtree(ran.root / "outputs")
    shutil.rmtree(ran.root / ".dvc")
    text = explain_text(why(ran, None))
    assert "12 outputs are missing here" in text
    assert "dvc pull --with-deps pipelines/tiny/dvc.yaml" in text
    shutil.rmtree(ran.pipelines)
    assert "12 stages have not run here: base, data, answer-baselines" in explain_text(
        why(ran, None)
    )


def test_a_whole_recipe_lists_each_cause_once_with_all_that_it_reaches(ran: Project) -> None:
    explanation = why(ran, None, "train.learning_rate=1e-4", "eval.limit=3")
    reaches = {cause.reason.subject: set(names(cause.reaches)) for cause in explanation.causes}
    assert set(reaches) == {"train.learning_rate", "eval.limit"}
    assert "answer-baselines" in reaches["eval.limit"] - reaches["train.learning_rate"]
    assert "export-cpu-fp32" in reaches["train.learning_rate"] - reaches["eval.limit"]


def test_a_stage_that_reads_a_key_itself_needs_no_way_to_it(ran: Project) -> None:
    gates = "gates=[{metric: exact_match, min: 0.1}]"
    assert names(only(why(ran, "gate", gates)).stages) == ["gate"]
    assert names(only(why(ran, "report", "train.seed=3")).stages) == ["train", "report"]


def test_the_old_value_comes_from_git_where_the_store_does_not_have_it(tmp_path: Path) -> None:
    project = Project(make_repository(tmp_path.resolve()))
    plan = compile_recipe(project, "tiny", ())
    pretend_run(project, plan)
    commit(project.root, "ran")
    shutil.rmtree(project.scratch)
    changed = ["train.learning_rate=1e-4", "data.max_length=48"]
    sync(project, [compile_recipe(project, "tiny", changed)])  # the old specs are overwritten
    found = {c.reason.subject: c.reason.old for c in why(project, "train", *changed).causes}
    assert found == {"train.learning_rate": 0.005, "data.max_length": 64}


def test_an_old_value_that_nobody_has_is_said_to_be_unknown(ran: Project) -> None:
    shutil.rmtree(ran.scratch)
    changed = ["train.learning_rate=1e-4"]
    sync(ran, [compile_recipe(ran, "tiny", changed)])
    text = explain_text(why(ran, "train", *changed))
    assert "what it ran from is not known" in text
    assert "?" not in text


def test_the_command_prints_text_and_json(
    ran: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ran.root)
    assert main(["why", "tiny/train", "train.learning_rate=1e-4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == to_json(why(ran, "train", "train.learning_rate=1e-4"))
    assert told["format_version"] == "1.0"
    assert told["causes"][0]["stages"] == ["tiny/train"]
    assert main(["why", "tiny/data"]) == 0  # a shared stage under its recipe's name
    assert "data is unchanged" in capsys.readouterr().out
    assert main(["why", "tiny/trian"]) == 64
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_a_shared_stage_is_found_by_the_address_that_plans_print(
    ran: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (ran.recipes / "broken.yaml").write_text("trian: {}\n", encoding="utf-8")
    base = next(iter(compile_recipe(ran, "tiny", ()).stages())).address
    monkeypatch.chdir(ran.root)
    assert main(["why", base]) == 0
    assert f"{base} is unchanged" in capsys.readouterr().out
    assert main(["why", "base-00000000/base"]) == 64
    assert "RECIPE/base" in capsys.readouterr().err


def test_a_file_that_the_lock_refuses_is_accepted_there_first(
    ran: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ran.root)
    assert main(["lock", "tiny"]) == 0
    data = ran.root / "data/tiny/commands.jsonl"
    data.write_bytes(data.read_bytes() + b"\n")
    assert main(["why", "tiny", "eval.limit=9"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == ("or accept it: slmcompile lock --upgrade && slmcompile run tiny eval.limit=9")
    assert main(["plan", "tiny"]) == 4
    assert main(["lock", "--upgrade", "tiny"]) == 0
    assert main(["plan", "tiny"]) == 0


def test_nothing_that_a_terminal_would_obey_is_printed(ran: Project) -> None:
    text = explain_text(why(ran, "data", r"data.template.prompt='{text} \x1b[31m'"))
    assert "data.template.prompt" in text
    evil = ran.recipes / "tiny.yaml"
    added = 'data: {template: {prompt: "{text}\\e[2J\\u202e"}}\n'
    evil.write_text(evil.read_text(encoding="utf-8") + added, encoding="utf-8")
    text = explain_text(why(ran, "data"))
    assert "data.template.prompt" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)
