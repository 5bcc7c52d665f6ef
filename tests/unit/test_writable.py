"""What a run could not write is found first, said in our words, and leaves no lock cut short."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from slmcompile.console.errors import MissingError
from slmcompile.execution.sync import compile_recipe
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.state.locks import recipe_lock
from slmcompile.state.torn_lock import keep_or_put_back
from slmcompile.state.writable import check_writable, missing_of
from tests.pretend import pretend_run
from tests.projects import make_project

FOLDERS = (".slmcompile", "pipelines", "outputs", ".dvc/tmp", ".dvc/cache")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path.resolve()
    (root / ".dvc").mkdir()
    return Project(root)


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_that_a_run_needs_is_tried_and_named(project: Project, folder: str) -> None:
    # A file in its place stops root too, who may write anywhere else.
    (project.root / folder).write_text("", encoding="utf-8")
    with pytest.raises(MissingError) as error:
        check_writable(project)
    assert error.value.what == f"{project.root / folder}: cannot be written (File exists)"


def test_a_cache_that_cannot_be_made_is_named_as_it_is_configured(project: Project) -> None:
    (project.root / ".dvc/config").write_text("[cache]\n    dir = /proc/nope\n", encoding="utf-8")
    with pytest.raises(MissingError, match=r"^/proc/nope: cannot be written"):
        check_writable(project)


def test_trying_leaves_nothing_but_the_folders(project: Project) -> None:
    check_writable(project)
    check_writable(project)
    left = {path.relative_to(project.root).as_posix() for path in project.root.rglob("*")}
    assert left == {*FOLDERS, ".dvc"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ERROR: failed: [Errno 28] No space left on device", "DVC: no space left on the device"),
        (
            "ERROR: failed to reproduce 'x': [Errno 30] Read-only file system: '/p/.dvc/cache/a'",
            "/p/.dvc/cache/a: cannot be written (Read-only file system)",
        ),
        (
            "ERROR: unexpected error - [Errno 13] Permission denied: '/p/q'",
            "/p/q: cannot be written (Permission denied)",
        ),
        (f"ERROR: [Errno {errno.EDQUOT}] Disk quota exceeded", "DVC: no space left on the device"),
        (
            "ERROR: unexpected error - database or disk is full",
            "DVC's state database: no space left on the device",
        ),
        ("ERROR: [Errno 2] No such file or directory: 'x'", None),
        ("ERROR: failed to run: slmcompile exec x, exited with 1", None),
    ],
)
def test_what_dvc_has_no_room_for_is_said_in_our_words(line: str, what: str | None) -> None:
    found = missing_of(["first line", line])
    assert (found.what if found else None) == what


@pytest.fixture
def ran(tmp_path: Path) -> tuple[Project, Plan]:
    project = Project(make_project(tmp_path.resolve() / "project", data=("tiny",)))
    plan = compile_recipe(project, "tiny", ())
    pretend_run(project, plan)
    return project, plan


def lock_of(project: Project) -> Path:
    return project.root / "pipelines/tiny/dvc.lock"


@pytest.mark.parametrize(
    "last", [b"", b"s", b"schema: '2.0'\n", b"stages:\n", b"md5\n", b"outs:\n"]
)
def test_a_lock_that_was_cut_short_is_put_back(ran: tuple[Project, Plan], last: bytes) -> None:
    """In the middle of a line or at its end."""
    project, plan = ran
    said: list[str] = []
    keep_or_put_back(project, plan, said.append)
    whole = lock_of(project).read_bytes()
    assert said == []
    left = whole.index(last) + len(last)
    lock_of(project).write_bytes(whole[:left])
    keep_or_put_back(project, plan, said.append)
    assert lock_of(project).read_bytes() == whole
    assert said == [
        "pipelines/tiny/dvc.lock: was cut short while DVC wrote it; the one before it is put back"
    ]


def test_a_first_lock_that_was_cut_short_is_removed(ran: tuple[Project, Plan]) -> None:
    project, plan = ran
    lock_of(project).write_bytes(b"")
    said: list[str] = []
    keep_or_put_back(project, plan, said.append)
    assert not lock_of(project).exists()
    assert len(said) == 1


def test_a_lock_that_somebody_changed_is_theirs(ran: tuple[Project, Plan]) -> None:
    """Git's marks of a conflict are no end in the middle of a line."""
    project, plan = ran
    keep_or_put_back(project, plan, print)
    conflict = b"<<<<<<< ours\nschema: '2.0'\n=======\n>>>>>>> theirs\n"
    lock_of(project).write_bytes(conflict)
    keep_or_put_back(project, plan, print)
    assert lock_of(project).read_bytes() == conflict


def test_a_shared_lock_is_left_to_whoever_writes_it(ran: tuple[Project, Plan]) -> None:
    """DVC writes in place: for a moment what another recipe's run writes is cut short."""
    project, plan = ran
    shared = project.root / "pipelines" / plan.pipelines[0].name / "dvc.lock"
    whole = shared.read_bytes()
    keep_or_put_back(project, plan, pytest.fail)
    shared.write_bytes(whole[:50])
    with recipe_lock(project, "quickstart"):
        keep_or_put_back(project, plan, pytest.fail)
        assert shared.read_bytes() == whole[:50]
    keep_or_put_back(project, plan, print)
    assert shared.read_bytes() == whole
