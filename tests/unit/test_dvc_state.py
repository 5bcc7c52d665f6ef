"""A stranger may have written DVC's cache and run-cache too: what is in them leads nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from slmcompile.state.state import Cache, read_lock
from tests.pretend import pretend_run
from tests.projects import make_project

GATE = "outputs/gates/tiny"


@pytest.fixture
def ran(tmp_path: Path) -> Project:
    """The tiny recipe as a run leaves it, with a cache beside the project as a clone could name."""
    project = Project(make_project(tmp_path.resolve() / "project", data=("tiny",)))
    pretend_run(project, compile_recipe(project, "tiny", ()))
    (project.root / ".dvc/cache").rename(tmp_path / "shared")
    (project.root / ".dvc/config").write_text("[cache]\n    dir = ../../shared\n")
    return project


def actions(project: Project) -> dict[str, str]:
    plan = compile_recipe(project, "tiny", ())
    return {each.stage.name: each.action for each in changes(project, plan)}


def gate(project: Project) -> str:
    return read_lock(project, "tiny")["gate"].outs[GATE]


def listing(relpath: object = "made", md5: object = "a" * 32) -> bytes:
    return json.dumps([{"relpath": relpath, "md5": md5}]).encode()


def test_a_cache_outside_the_project_is_read(ran: Project) -> None:
    assert set(actions(ran).values()) == {"unchanged"}
    (ran.root / GATE / "made").unlink()
    assert actions(ran)["gate"] == "restore"


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"[" + b"[]," * 20_000_000 + b"[]]",
        b"\xff\xfe",
        b"1",
        b"[1]",
        b'["relpath"]',
        listing(md5=1),
        listing(md5=None),
        listing(md5="a" * 5000),
        listing(md5="/etc/passwd"),
        listing(relpath=1),
        listing(relpath="../secret"),
        listing(relpath="/etc/passwd"),
    ],
    ids=lambda content: str(content[:40]),
)
def test_a_folder_object_that_is_none_is_not_used(ran: Project, content: bytes) -> None:
    Cache(ran).blob(gate(ran)).write_bytes(content)
    assert Cache(ran).folder(gate(ran)) is None
    assert actions(ran)["gate"] == "run"


def test_a_folder_object_of_thousands_of_files_is_read(ran: Project) -> None:
    entries = [{"md5": f"{n:032x}", "relpath": f"folder/row-{n:06}.json"} for n in range(8000)]
    Cache(ran).blob(gate(ran)).write_text(json.dumps(entries))
    assert len(Cache(ran).folder(gate(ran)) or {}) == 8000


@pytest.mark.parametrize("target", ["/dev/zero", "/nowhere", "object"])
@pytest.mark.parametrize("which", [".dir", ""])
def test_a_link_in_the_cache_is_no_object(ran: Project, target: str, which: str) -> None:
    cache = Cache(ran)
    md5 = gate(ran) if which else next(iter((cache.folder(gate(ran)) or {}).values()))
    real = cache.blob(md5).rename(cache.root / "object")
    cache.blob(md5).symlink_to(real if target == "object" else target)
    assert not Cache(ran).has(gate(ran))
    assert actions(ran)["gate"] == "run"


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    "make",
    [
        write(b"\xff\xfe"),
        write(b"a: 2001-99-99"),
        write(b"[" * 100_000),
        write(b"outs: [{path: a, md5: 1}]"),
        write(b"outs: [{path: ../a, md5: %s}]" % (b"a" * 32)),
        write(b"outs: [1]"),
        write(b"outs: 1"),
        write(b"[1]"),
        write(b""),
        lambda path: path.symlink_to("/nowhere"),
        lambda path: path.symlink_to("/dev/zero"),
        os.mkfifo,
        Path.mkdir,
    ],
)
def test_a_remembered_run_that_is_none_is_not_used(
    ran: Project, make: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slmcompile.state.state._run_key", lambda *_: "key")
    folder = Cache(ran).root / "runs/ke/key"
    folder.mkdir(parents=True)
    make(folder / "x")
    outs = {GATE: gate(ran)}
    assert Cache(ran).remembered_run("", {}, tuple(outs)) is None
    (folder / "y").write_text(f"outs: [{{path: {GATE}, md5: {gate(ran)}}}]")
    os.utime(folder / "y", (2**33, 2**33))
    assert Cache(ran).remembered_run("", {}, tuple(outs)) == outs
    (ran.pipelines / "tiny/dvc.lock").unlink()
    folder.rename(folder.parent / "real")
    folder.symlink_to("real")
    assert Cache(ran).remembered_run("", {}, tuple(outs)) is None
