"""Locks: DVC's claims after a kill, and what may be removed while somebody else runs."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit, LockedError, RefusedError
from slmcompile.drift.files import dvc_lock as drifted
from slmcompile.execution.sync import compile_recipe, remove_orphans, sync
from slmcompile.recipe.project import Project
from slmcompile.state import dvc_lock
from slmcompile.state.locks import other_runs, project_lock, recipe_lock, work_lock
from tests.projects import make_project


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    path = tmp_path / dvc_lock.LIST
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("text", ["", '{"write": {"/a": {"pi', "[]", '{"read": 1}', "\x00\x00"])
def test_claims_that_dvc_refuses_to_read_are_removed_and_said(claims: Path, text: str) -> None:
    claims.write_text(text, encoding="utf-8")
    project, said = Project(claims.parents[2]), []
    assert [finding.subject for finding in drifted(project)] == [dvc_lock.LIST]
    dvc_lock.mend(project, said.append)
    assert not claims.exists()
    assert len(said) == 1
    assert not list(drifted(project))


def test_claims_of_the_living_are_left_alone(claims: Path) -> None:
    project = Project(claims.parents[2])
    claims.write_text('{"write": {"/a": {"pid": 1, "cmd": "dvc repro"}}}', encoding="utf-8")
    dvc_lock.mend(project, pytest.fail)
    assert claims.exists()
    claims.write_text("", encoding="utf-8")  # as DVC leaves it for a moment whenever it writes
    with (claims.parent / "rwlock.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        dvc_lock.mend(project, pytest.fail)
    assert claims.exists()


def test_a_recipe_is_held_once_and_its_holder_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with recipe_lock(project, "one"), recipe_lock(project, "two"):
        assert other_runs(project, "one") == ["two"]
        with pytest.raises(LockedError) as caught, recipe_lock(project, "one"):
            pass
        assert caught.value.code == Exit.LOCKED
    with project_lock(project):
        assert other_runs(project) == []


def test_no_folder_is_removed_while_another_recipe_runs(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path / "p"))
    sync(project, [compile_recipe(project, "tiny", ["data.seed=1"])], running="tiny")
    before = {path.name for path in project.pipelines.iterdir()}
    now = compile_recipe(project, "tiny", ["data.seed=2"])
    with recipe_lock(project, "quickstart"):
        assert sync(project, [now], running="tiny").removed == ()
        assert before < {path.name for path in project.pipelines.iterdir()}
    remove_orphans(project, now)
    left = {path.name for path in project.pipelines.iterdir()}
    assert left == {pipeline.name for pipeline in now.pipelines}


def test_equal_work_is_done_by_one_at_a_time(tmp_path: Path) -> None:
    project, order, told = Project(tmp_path), [], []
    began, waits = threading.Event(), threading.Event()

    def second() -> None:
        began.wait()
        with work_lock(project, "ab" * 32, lambda line: (told.append(line), waits.set())):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with work_lock(project, "ab" * 32, pytest.fail), work_lock(project, "cd" * 32, pytest.fail):
        began.set()
        assert waits.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert told == ["another run is at the same work: waiting for it"]
    assert not list((tmp_path / ".slmcompile" / "locks").iterdir())
    assert other_runs(project) == []


@pytest.mark.parametrize("link", [".slmcompile", ".slmcompile/locks", ".slmcompile/locks/tiny"])
def test_a_lock_writes_through_no_link(tmp_path: Path, link: str) -> None:
    """A pull request may bring one that leads to any file of whoever runs it."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("precious", encoding="utf-8")
    path = tmp_path / "project" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "theirs" / ("file" if link.endswith("tiny") else ""))
    with pytest.raises(RefusedError), recipe_lock(Project(tmp_path / "project"), "tiny"):
        pass
    assert (tmp_path / "theirs" / "file").read_text(encoding="utf-8") == "precious"
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["file"]
