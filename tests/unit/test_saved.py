"""``plan --out`` and ``apply``: exactly the plan that was made, or exit 4."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slmcompile.plans.installed as installed
from slmcompile import api
from slmcompile.cli.main import main
from slmcompile.console.errors import CorruptError, RefusedError, SlmcompileError, StaleError
from slmcompile.execution import dvc_executor
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.saved import load
from slmcompile.metrics import METRICS
from slmcompile.plans.canonical import digest
from slmcompile.recipe.project import Project
from tests.executors import Idle
from tests.pretend import pretend_run
from tests.projects import make_project
from tests.tables import raise_epoch

OVERRIDES = ("train.learning_rate=1e-4",)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = Project(make_project(tmp_path_factory.mktemp("planned").resolve(), data=("tiny",)))
    pretend_run(project, compile_recipe(project, "tiny", ()))
    planned = api.plan("tiny", OVERRIDES, project=project.root)
    api.save_plan(project, planned, project.root / "plan.json")
    return project.root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that has run, with a saved plan of another learning rate; nothing can run."""
    project = Project(shutil.copytree(template, tmp_path.resolve() / "project"))
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(dvc_executor, "DvcExecutor", Idle)
    return project


def apply(project: Project) -> Any:
    return api.apply(project.root / "plan.json", project=project.root)


def test_a_saved_plan_is_the_plan_and_the_same_plan_gives_the_same_bytes(project: Project) -> None:
    saved = load(project.root / "plan.json")
    planned = api.plan("tiny", OVERRIDES, project=project.root)
    assert list(saved.plan.stages()) == list(planned.plan.stages())
    assert saved.fingerprints == planned.plan.fingerprints()
    assert saved.plan.plan_id == planned.plan.plan_id
    assert [(c.stage, c.action) for c in saved.changes] == [
        (c.stage, c.action) for c in planned.changes
    ]
    first = (project.root / "plan.json").read_bytes()
    main(["plan", "tiny", *OVERRIDES, "--out", "plan.json"])
    assert (project.root / "plan.json").read_bytes() == first


def test_apply_runs_a_plan_of_which_nothing_changed(project: Project) -> None:
    result = apply(project)
    assert result.plan.overrides == OVERRIDES
    assert "train.learning_rate=1e-4" in (project.root / "pipelines/tiny/overrides.yaml").read_text(
        encoding="utf-8"
    )


def test_a_plan_with_an_entry_of_another_epoch_is_saved_and_applied(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_epoch(monkeypatch, "exact_match", METRICS)
    assert main(["plan", "tiny", *OVERRIDES, "train.seed=4", "--out", "plan.json"]) == 0
    assert apply(project).plan.stage("score").epochs == {"metric exact_match": 2}


def edit(path: str, old: str, new: str) -> Callable[[Project, pytest.MonkeyPatch], None]:
    def change(project: Project, _: pytest.MonkeyPatch) -> None:
        text = (project.root / path).read_text(encoding="utf-8")
        assert old in text
        (project.root / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def broken(project: Project, _: pytest.MonkeyPatch) -> None:
    (project.recipes / "tiny.yaml").write_text("trian: {}\n", encoding="utf-8")


def no_data(project: Project, _: pytest.MonkeyPatch) -> None:
    (project.root / "data/tiny/commands.jsonl").unlink()


def other_package(project: Project, patch: pytest.MonkeyPatch) -> None:
    known = installed._version
    patch.setattr(
        installed, "_version", lambda name, when: "9.9" if name == "peft" else known(name, when)
    )


def other_shared_package(project: Project, patch: pytest.MonkeyPatch) -> None:
    known = installed._version
    patch.setattr(
        installed, "_version", lambda name, when: "9.9" if name == "pyarrow" else known(name, when)
    )


def other_epoch(project: Project, patch: pytest.MonkeyPatch) -> None:
    raise_epoch(patch, "answer")


def other_epoch_of_a_metric(project: Project, patch: pytest.MonkeyPatch) -> None:
    raise_epoch(patch, "exact_match", METRICS)


def another_run(project: Project, _: pytest.MonkeyPatch) -> None:
    pretend_run(project, compile_recipe(project, "tiny", ["train.seed=5"]))


def other_overrides(project: Project, _: pytest.MonkeyPatch) -> None:
    (project.root / "pipelines/tiny/overrides.yaml").write_text("[train.seed=5]\n")


def lost_output(project: Project, _: pytest.MonkeyPatch) -> None:
    (found,) = (project.root / "outputs").glob("answer-base-*")
    shutil.rmtree(found)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (edit("recipes/tiny.yaml", "defaults", "# a word\ndefaults"), "recipes/tiny.yaml changed"),
        (edit("conf/train/tiny.yaml", "learning_rate", "seed: 3\nlearning_rate"),
         "conf/train/tiny.yaml changed"),
        (edit("data/tiny/commands.jsonl", "on", "off"), "data/tiny/commands.jsonl changed"),
        (broken, "recipes/tiny.yaml changed"),
        (no_data, "data/tiny/commands.jsonl is gone"),
        (other_package, "package peft"),
        (other_shared_package, "package pyarrow"),
        (other_epoch, "slmcompile's own code for answer changed"),
        (other_epoch_of_a_metric, "slmcompile's own code for metric exact_match changed"),
        (another_run, "pipelines/tiny/dvc.lock changed"),
        (other_overrides, "pipelines/tiny/overrides.yaml changed"),
        (lost_output, "/answer-base was unchanged when the plan was made"),
    ],
)  # fmt: skip
def test_apply_refuses_and_names_the_first_thing_that_changed(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Project, pytest.MonkeyPatch], None],
    named: str,
) -> None:
    change(project, monkeypatch)
    with pytest.raises(StaleError) as caught:
        apply(project)
    assert caught.value.code == 4
    assert named in caught.value.what
    assert caught.value.mend == (
        f"plan anew: slmcompile plan tiny {OVERRIDES[0]} --out {project.root}/plan.json"
    )


def test_planning_anew_keeps_overrides_and_selection(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [
        "tiny",
        "eval.limit=9",
        "data.template.prompt='{text} now'",
        "--select",
        "+answer-base",
    ]
    assert main(["plan", *told, "--select", "+data", "--out", "p.json"]) == 0
    edit("recipes/tiny.yaml", "defaults", "# a word\ndefaults")(project, pytest.MonkeyPatch())
    capsys.readouterr()
    assert main(["apply", "p.json"]) == 4
    mend = capsys.readouterr().err.splitlines()[1]
    words = shlex.split(mend.partition("slmcompile ")[2])
    assert words == ["plan", *told, "--select", "+data", "--out", "p.json"]
    assert main(words) == 0
    assert main(["apply", "p.json"]) == 0


def rewrite(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | values
    content.pop("sha256")
    path.write_text(json.dumps(content | {"sha256": digest(content)}), encoding="utf-8")


def test_a_plan_with_other_overrides_than_it_was_made_with_is_refused(project: Project) -> None:
    path = project.root / "plan.json"
    rewrite(path, overrides=["train.learning_rate=0.9"])
    with pytest.raises(StaleError, match="what tiny/check does changed"):
        apply(project)
    path.write_text(path.read_text(encoding="utf-8").replace("0.9", "0.8"), encoding="utf-8")
    with pytest.raises(CorruptError, match="edited after it was written"):
        apply(project)


def test_an_unknown_major_format_is_refused_and_a_minor_one_read(project: Project) -> None:
    path = project.root / "plan.json"
    rewrite(path, format_version="1.7", later="additive")
    assert load(path).plan.recipe == "tiny"
    rewrite(path, format_version="2.0")
    with pytest.raises(StaleError, match=r"plan format 2\.0"):
        load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": "1.0"}', "\x00\xff"])
def test_what_is_no_plan_file_is_refused_without_a_traceback(project: Project, text: str) -> None:
    path = project.root / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SlmcompileError) as caught:
        load(path)
    assert caught.value.code == 74
    assert main(["apply", "none.json"]) == 64


def test_a_plan_file_of_a_stranger_neither_escapes_nor_commands_the_terminal(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.root / "plan.json"
    rewrite(path, recipe="../../escaped")
    with pytest.raises(CorruptError):
        apply(project)
    assert not list(project.root.parent.rglob("escaped"))
    rewrite(path, recipe="tiny", overrides=["\x1b[2J\u202e"])
    capsys.readouterr()
    assert main(["show", "plan.json"]) == 0
    shown = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


@pytest.mark.parametrize(
    "place",
    [
        "recipes/tiny.yaml", "recipes/p.json", "conf/x/y.json", "pipelines/tiny/p.json",
        "data/tiny/commands.jsonl", "data/p.json", ".dvc/p.json", "README.md", "here/there.yaml",
    ],
)  # fmt: skip
def test_a_plan_overwrites_no_other_file_and_makes_no_folder_among_them(
    project: Project, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (project.root / "README.md").write_text("read me")
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}
    capsys.readouterr()
    assert main(["plan", "tiny", "--out", place]) == 64
    error = capsys.readouterr().err
    assert f"--out {place}: " in error
    assert "mend: name " in error
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before


def test_a_plan_may_be_written_over_an_older_one_and_into_a_new_folder(project: Project) -> None:
    rewrite(project.root / "plan.json", format_version="0.9")
    assert main(["plan", "tiny", "--out", "plan.json"]) == 0
    assert main(["plan", "tiny", "--out", "plans/a.json"]) == 0


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("overrides",), [1]),
        (("select",), [1]),
        (("made_from", "data"), []),
        (("made_from", "data"), {}),
        (("made_from", "data", "/proc/self/mem"), "0" * 64),
        (("made_from", "sources"), 5),
        (("made_from", "sources", "/etc/hostname"), "0" * 64),
        (("made_from", "sources", "../secret"), "0" * 64),
        (("effective",), []),
        (("effective", "deep"), json.loads('{"a":' * 200 + "1" + "}" * 200)),
        (("pipelines", 0, "name"), 5),
        (("pipelines", 0, "name"), "../../x"),
        (("pipelines",), []),
        (("stages", 0, "config"), 5),
        (("stages", 0, "packages"), 5),
        (("stages", 0, "input_stages"), [1]),
        (("stages", 0, "input_stages"), {"base": "none/such"}),
        (("stages", 0, "files"), [5]),
        (("stages", 0, "files"), ["/etc/passwd"]),
        (("stages", 0, "name"), 5),
        (("stages", 0, "kind"), "x"),
        (("stages", 0, "action"), "x"),
        (("stages", 0, "reasons"), [{"cause": "nope"}]),
        (("stages", 0, "fingerprint"), 5),
        (("stages", 0, "identity"), {}),
        (("stages", 0, "pipeline"), "../../.."),
        (("stages", 6, "metrics"), "/dev/zero"),
    ],
)
def test_a_plan_file_that_hashes_right_may_still_be_none(
    project: Project, keys: tuple[str | int, ...], value: Any
) -> None:
    """Anybody can write the hash."""
    path = project.root / "plan.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    rewrite(path, **content)
    with pytest.raises(CorruptError):
        load(path)


def test_a_plan_file_is_no_link_and_has_a_size(project: Project) -> None:
    path = project.root / "plan.json"
    (project.root / "link.json").symlink_to(path)
    with pytest.raises(RefusedError, match="symbolic link"):
        load(project.root / "link.json")
    rewrite(path, effective=[[]] * 1_000_000)
    with pytest.raises(CorruptError):
        load(path)
    path.write_text("[]" * (3 << 20), encoding="utf-8")
    with pytest.raises(CorruptError, match="too large"):
        load(path)


def test_show_prints_a_saved_plan(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["show", "plan.json"]) == 0
    shown = capsys.readouterr().out
    assert "of tiny train.learning_rate=1e-4" in shown
    assert "~ tiny/train" in shown
    assert "train.learning_rate 0.005 → 0.0001" in shown
    assert main(["show", "plan.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "tiny"


def test_a_selection_is_saved_with_the_plan_and_claims_no_results(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "tiny", "eval.limit=4", "--select", "answer-base", "--out", "p.json"]) == 0
    result = api.apply(project.root / "p.json", project=project.root)
    assert [change.stage.name for change in result.changes] == ["answer-base"]
    assert result.report is None
    assert {artifact.name for artifact in result.artifacts} <= {"base"}
    stale = ["plan", "tiny", *OVERRIDES, "--select", "answer-torch", "--out", "q.json"]
    assert main(stale) == 4
    assert not (project.root / "q.json").exists()
    assert main(["run", "tiny", *OVERRIDES, "--select", "+train"]) == 0
    printed = capsys.readouterr().out
    assert "the report was not selected" in printed
    assert "report  " not in printed
    assert "exact match" not in printed
