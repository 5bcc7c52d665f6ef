"""A data folder behind a symbolic link is read where the policy says so, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile import api
from slmcompile.console.errors import Exit, RefusedError
from slmcompile.data.files import contained
from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.policy import FILE
from slmcompile.recipe.project import Project
from tests.projects import command, commit, make_project

PATH = "data/far/rows/a.jsonl"
ROWS = ("data.source.path=data/far/rows/*.jsonl",)


@pytest.fixture
def far(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "far"
    (folder / "rows/.hidden").mkdir(parents=True)
    text = '{"text": "a", "lable": "on"}\n'
    for name in ("a.jsonl", ".hidden/b.jsonl"):
        (folder / "rows" / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def project(tmp_path: Path, far: Path) -> Project:
    """Its ``data/far`` is a link to a folder outside."""
    folder = make_project(tmp_path.resolve() / "project", data=("tiny",))
    (folder / "data/far").symlink_to(far)
    return Project(folder)


def allow(project: Project, *roots: Path | str) -> None:
    (project.root / FILE).write_text(f"data_roots: [{', '.join(map(str, roots))}]\n")


def refused(project: Project, *overrides: str) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        compile_recipe(project, "tiny", overrides or ROWS)
    return caught.value


def test_a_link_is_refused_and_the_message_says_who_can_allow_it(project: Project) -> None:
    error = refused(project)
    assert "data/far/rows/*.jsonl goes through a symbolic link" in error.what
    assert f"or let data_roots of {FILE} name the folder that it leads to" in error.mend


@pytest.mark.parametrize("below", ["", "rows"])
def test_a_folder_that_the_policy_names_is_read_through_the_link(
    project: Project, far: Path, below: str
) -> None:
    allow(project, ".", far / below)
    plan = compile_recipe(project, "tiny", ROWS)
    assert PATH in plan.files
    planned = api.plan("tiny", ROWS, project=project.root)
    columns = next(each for each in planned.findings if each.check.name == "columns")
    assert columns.verdict.evidence == f"{PATH}:1: no column 'label'"  # so it was read
    assert contained(project.root, PATH, [str(far)]) == far / "rows/a.jsonl"


def test_a_link_that_leads_elsewhere_is_refused(project: Project, far: Path) -> None:
    for root in (far.parent / "farther", far / "rows/.hidden", "data"):
        allow(project, ".", root)
        assert "goes through a symbolic link" in refused(project).what
        with pytest.raises(RefusedError, match="outside the project"):
            contained(project.root, PATH, [str(root)])
    allow(project, ".", far)
    (project.root / "data/far").unlink()
    (project.root / "data/far").symlink_to(far.parent)
    assert "goes through a symbolic link" in refused(project, "data.source.path=data/far/x").what


def test_what_is_hidden_there_stays_hidden(project: Project, far: Path) -> None:
    allow(project, ".", far)
    (project.root / "data/sly").symlink_to(far / "rows/.hidden")
    error = refused(project, "data.source.path=data/sly/b.jsonl")
    assert "goes through a symbolic link" in error.what


def test_a_link_in_the_place_of_the_file_itself_is_refused(project: Project, far: Path) -> None:
    allow(project, ".", far)
    (project.root / "data/x.jsonl").symlink_to(far / "rows/a.jsonl")
    assert "symbolic link" in refused(project, "data.source.path=data/x.jsonl").what


def test_an_absolute_path_stays_outside_the_project(project: Project, far: Path) -> None:
    allow(project, ".", far)
    error = refused(project, f"data.source.path={far}/rows/a.jsonl")
    assert "lies outside the project" in error.what


def test_roots_that_leave_the_project_out_say_so(project: Project, far: Path) -> None:
    """The list is all that there is: ``.`` stands for the project."""
    allow(project, far)
    planned = api.plan("tiny", project=project.root)
    found = next(each for each in planned.findings if each.check.name == "allowed")
    assert (found.verdict.outcome, found.code) == ("refuted", Exit.REFUSED)
    assert "outside the policy's data_roots" in found.verdict.evidence


def test_a_pull_request_cannot_open_a_way_out(project: Project, far: Path) -> None:
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "closed")
    allow(project, ".", far)
    commit(project.root, "loosened")
    assert PATH in api.plan("tiny", ROWS, project=project.root).plan.files
    with pytest.raises(RefusedError, match="goes through a symbolic link"):
        api.plan("tiny", ROWS, project=project.root, policy_from="HEAD~1")
