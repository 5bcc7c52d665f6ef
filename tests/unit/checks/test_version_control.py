"""Checks 32 and 33: what git ignores or tracks against DVC is found before anything runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from slmcompile.recipe.project import Project
from tests.projects import command, commit, make_repository
from tests.unit.checks.judging import context, judged, make

EVIDENCE = re.compile(r"git ignores (\S+), which DVC then refuses")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("template").resolve() / "project")


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    return Project(shutil.copytree(template, tmp_path.resolve() / "project"))


def ignore(project: Project, *lines: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    (project.root / ".gitignore").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("pipelines/", r"pipelines/base-\w+/dvc\.yaml"),
        ("*.lock", r"pipelines/base-\w+/dvc\.lock"),
        ("dvc.yaml", r"pipelines/base-\w+/dvc\.yaml"),
        ("tiny", r"pipelines/tiny/dvc\.yaml"),
        ("/dvc.yaml", r"dvc\.yaml"),
    ],
)
def test_an_ignored_pipeline_is_refuted_with_the_line_and_a_mend_that_works(
    project: Project, pattern: str, path: str
) -> None:
    ignore(project, "/outputs/", pattern)
    known = context(project)
    verdict = judged(known, 32)
    assert verdict.outcome == "refuted"
    found = EVIDENCE.fullmatch(verdict.evidence)
    assert found
    assert re.fullmatch(path, found[1])
    assert verdict.where == f".gitignore:2: {pattern}"
    ignore(project, "/outputs/", pattern, *re.findall(r"`(.*?)`", verdict.mend))
    assert judged(known, 32).outcome == "proved"


def test_tracked_pipelines_that_a_pattern_takes_in_are_refuted_too(project: Project) -> None:
    """DVC asks for the pattern and not for git's index."""
    (project.root / "pipelines/tiny").mkdir(parents=True)
    (project.root / "pipelines/tiny/dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    commit(project.root, "pipelines")
    ignore(project, "pipelines/tiny/")
    assert judged(context(project), 32).where == ".gitignore:1: pipelines/tiny/"


def test_the_users_own_patterns_and_the_repositorys_count(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = context(project)
    (project.root / ".git/info/exclude").write_text("*.lock\n", encoding="utf-8")
    assert judged(known, 32).where == ".git/info/exclude:1: *.lock"
    (project.root / ".git/info/exclude").unlink()
    settings, patterns = tmp_path / "gitconfig", tmp_path / "patterns"
    settings.write_text(f"[core]\n\texcludesFile = {patterns}\n", encoding="utf-8")
    patterns.write_text("\npipelines\n", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert judged(known, 32).where == f"{patterns}:2: pipelines"


def test_a_project_below_the_repository_names_the_file_as_it_sees_it(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    project = make(top / "below")
    command(top, "git", "init", "--quiet")
    (top / ".gitignore").write_text("below/pipelines\n", encoding="utf-8")
    assert judged(context(project), 32).where == "../.gitignore:1: below/pipelines"


def test_tracked_outputs_are_refuted_and_the_mend_works(project: Project) -> None:
    known = context(project)
    assert judged(known, 33).outcome == "proved"
    for path in ("outputs/tiny/train/x", "outputs/tiny/report/y", "outputs/other/z"):
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        (project.root / path).write_text("1", encoding="utf-8")
    command(project.root, "git", "add", "--force", "outputs")
    commit(project.root, "outputs")
    verdict = judged(known, 33)
    assert verdict.outcome == "refuted"
    assert verdict.evidence.startswith("git tracks outputs/tiny/train, ")
    assert verdict.mend.startswith("git rm -r --cached outputs/tiny/train outputs/tiny/report ")
    command(project.root, *verdict.mend.split(" (")[0].split())
    assert judged(known, 33).outcome == "proved"
    assert (project.root / "outputs/tiny/train/x").is_file()


@pytest.mark.parametrize("number", [32, 33])
def test_git_is_not_asked_where_it_is_not_or_nothing_is_to_be_done(
    project: Project, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = context(make(tmp_path / "without"))
    known = context(project)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert judged(without, number).evidence == "not under git yet"
    assert judged(known, number, untouched=True).evidence == "nothing is left to do"
    assert judged(known, number).outcome == "needs_probe"


@pytest.mark.parametrize("number", [32, 33])
def test_both_end_a_run_as_something_that_is_missing(number: int) -> None:
    from slmcompile.checks.registry import all_checks

    (rule,) = (check for check in all_checks() if check.number == number)
    assert (rule.code, rule.warning) == (Exit.MISSING, False)


def test_no_program_of_the_repositorys_own_settings_is_started(
    project: Project, tmp_path: Path
) -> None:
    """A stranger's ``.git/config`` may name programs for git to start."""
    canary = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n", encoding="utf-8")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor"):
        command(project.root, "git", "config", name, str(program))
    known = context(project)
    assert judged(known, 32).outcome == judged(known, 33).outcome == "proved"
    assert not canary.exists()
