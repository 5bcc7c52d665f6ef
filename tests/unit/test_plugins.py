"""Plug-ins are read as data: what a declaration may say, where it may lie, what it is known by."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.execution.sync import compile_recipe
from slmcompile.lock.references import references
from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import RESERVED
from slmcompile.plans.definition import Stage
from slmcompile.plans.plugins import declared, joined
from slmcompile.recipe.project import Project
from tests.projects import command, commit, make_project

LENGTH = """\
format_version: "1.0"
metrics:
  length:
    title: Length
    words: characters of an answer
    needs: text
    program: measure:LENGTH
    higher_is_better: false
    high: null
    digits: 1
"""
ASKED = ["eval.metrics=[exact_match,length]"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(make_project(tmp_path.resolve() / "project", data=("tiny",)))
    policy(project, "plugins/length")
    write(project, LENGTH)
    return project


def policy(project: Project, *names: str) -> None:
    path = project.conf / "policy" / "default.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"plugins: [{', '.join(names)}]\n")


def write(project: Project, text: str, name: str = "length") -> Path:
    folder = project.root / "plugins" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plugin.yaml").write_text(text)
    (folder / "measure.py").write_text("raise SystemExit('imported')\n")
    return folder


def score(project: Project, *overrides: str) -> Stage:
    with joined(project):
        return compile_recipe(project, "tiny", [*ASKED, *overrides]).stage("score")


def test_a_declaration_becomes_an_entry_for_as_long_as_its_project_is_asked(
    project: Project,
) -> None:
    with joined(project):
        metric = METRICS["length"]
        assert (metric.plugin, metric.high, metric.digits) == ("plugins/length", float("inf"), 1)
        assert list(METRICS)[-1] == "length", "behind those that are built in"
    assert "length" not in METRICS
    assert not any(name.startswith("slmcompile_plugins") for name in sys.modules)


def test_its_files_are_what_the_stage_is_known_by(project: Project) -> None:
    stage = score(project)
    assert stage.files == ("plugins/length/measure.py", "plugins/length/plugin.yaml")
    assert set(stage.files) <= set(stage.deps)
    assert "plugins" not in str(stage.identity()), "names are no content"
    with joined(project):
        plain = compile_recipe(project, "tiny").stage("score")
    assert plain.files == (), "a metric that is not asked for is nobody's input"


def test_a_project_inside_anothers_block_has_its_own(project: Project, tmp_path: Path) -> None:
    other = Project(make_project(tmp_path.resolve() / "other", data=("tiny",)))
    with joined(project):
        with joined(other):
            assert "length" not in METRICS
        assert "length" in METRICS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LENGTH.replace("words:", "wrods:"), "plugin.yaml:5: metrics.length.wrods: unknown key"),
        (LENGTH.replace("needs: text", "needs: smell"), "plugin.yaml:6: metrics.length.needs"),
        (LENGTH.replace("measure:", "../x:"), "plugin.yaml:7: metrics.length.program"),
        (LENGTH.replace("high: null", "high: -1"), "low 0 is not below high -1"),
        (LENGTH.replace("  length:", "  rows:"), "metrics.rows: results have a key of this name"),
        (LENGTH.replace("  length:", "  my_ci:"), "metrics.my_ci"),
        (LENGTH.replace("  length:", "  accuracy:"), "metric accuracy is declared twice"),
        (LENGTH.replace('"1.0"', '"2.0"'), "format_version"),
        ("a: [", "plugin.yaml"),
        ("!!python/object/apply:os.system [x]", "plugin.yaml"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_said_with_its_line(
    project: Project, text: str, says: str
) -> None:
    write(project, text)
    with pytest.raises(SlmcompileError) as caught, joined(project):
        pass
    assert says in caught.value.what
    assert caught.value.code in {Exit.BAD_RECIPE, Exit.REFUSED}


def test_what_is_named_and_is_not_there_is_missing(project: Project) -> None:
    for name in ("plugins/other", "no-such-package", "pytest"):
        policy(project, name)
        with pytest.raises(SlmcompileError) as caught:
            declared(project)
        assert caught.value.code == Exit.MISSING
        assert name in caught.value.what


def test_a_plug_in_behind_a_link_is_refused(project: Project, tmp_path: Path) -> None:
    folder = write(project, LENGTH)
    moved = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(moved)
    with pytest.raises(SlmcompileError) as caught:
        declared(project)
    assert caught.value.code == Exit.REFUSED


def test_the_policy_of_the_base_branch_counts(project: Project) -> None:
    policy(project)
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "no plug-in")
    policy(project, "plugins/length")
    assert [metric.name for metric in declared(project)] == ["length"]
    assert declared(Project(project.root, policy_from="main")) == ()


def test_an_installed_package_is_found_by_its_entry_point_and_known_by_its_files(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    package, info = site / "length_pack", site / "length_pack-1.2.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "plugin.yaml").write_text(LENGTH)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "measure.py").write_text("x = 1\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: length-pack\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[slmcompile.plugins]\nlength = length_pack\n")
    monkeypatch.syspath_prepend(str(site))
    policy(project, "length-pack")
    stage = score(project)
    assert stage.packages["length-pack"] == "1.2"
    assert stage.files == ()
    before = stage.config["plugins"]["length-pack"]
    with joined(project):
        assert METRICS["length"].program == "length_pack.measure:LENGTH"
    (package / "measure.py").write_text("x = 2\n")
    assert score(project).config["plugins"]["length-pack"] != before
    assert "length_pack" not in sys.modules


def test_every_key_of_a_result_is_reserved() -> None:
    """Else a plug-in's value would stand where a count does."""
    from slmcompile.stages.score import OF_THE_MACHINE

    assert OF_THE_MACHINE <= RESERVED


def test_files_of_a_plug_in_stand_beside_the_file_that_a_metric_reads(project: Project) -> None:
    (project.root / "answer.json").write_text("{}")
    asked = [
        "eval.metrics=[json_schema_valid,length]",
        "++eval.json_schema=answer.json",
    ]
    with joined(project):
        plan = compile_recipe(project, "tiny", asked)
        found = references(plan)
    assert {"answer.json", "plugins/length/measure.py"} <= set(plan.stage("score").files)
    assert [each.key for each in found if each.origin[0] == "eval"] == ["file:answer.json"]
