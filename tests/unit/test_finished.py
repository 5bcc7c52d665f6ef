"""Finished work is taken only if it is the very work, whole and untouched."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from slmcompile.files import artifact
from slmcompile.recipe.project import Project
from slmcompile.state import finished
from slmcompile.state.finished import Texts
from slmcompile.state.locks import kept_work

WORK = "ab" * 32
OUT = "outputs/r/train"
SPEC = {"kind": "train", "stage": "r/train", "out": OUT}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in which the work ended and its artifact was put into place."""
    (tmp_path / "recipes").mkdir()
    project = Project(tmp_path)
    with artifact.replacing(
        tmp_path / OUT, "train", {}, WORK,
        lambda whole: finished.keep(project, SPEC, WORK, whole, Texts(("{}\n",), ("step\n",))),
    ) as folder:  # fmt: skip
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_bytes(b"1234")
    return project


def _find(project: Project, fingerprint: str = WORK) -> tuple[str | None, list[str]]:
    said: list[str] = []
    with finished.found(project, "train", fingerprint, said.append) as found:
        return (project.shown(found.folder) if found else None), said


def test_work_that_was_kept_is_found_without_its_output(project: Project) -> None:
    (project.root / OUT / "sub" / "weights").unlink()
    (project.root / OUT / artifact.MANIFEST).unlink()
    with finished.found(project, "train", WORK, pytest.fail) as found:
        assert found is not None
        assert found.texts == Texts(("{}\n",), ("step\n",))
        assert (found.folder / "sub" / "weights").read_bytes() == b"1234"


def test_work_is_found_where_it_was_done_once_it_is_no_longer_kept(project: Project) -> None:
    (project.root / ".slmcompile" / "kept").rename(project.root / "elsewhere")
    assert _find(project) == (OUT, [])


def test_other_work_is_not_taken(project: Project) -> None:
    assert _find(project, "cd" * 32) == (None, [])
    with finished.found(project, "export", WORK, pytest.fail) as found:
        assert found is None


def test_a_damaged_artifact_is_passed_over_and_said(project: Project) -> None:
    kept = project.root / ".slmcompile" / "kept" / WORK / "sub" / "weights"
    kept.unlink()
    kept.write_bytes(b"1235")
    found, said = _find(project)
    assert found == OUT
    assert len(said) == 1
    assert "its bytes are not those that were written" in said[0]
    (project.root / OUT / "sub" / "weights").unlink()
    found, said = _find(project)
    assert found is None
    assert len(said) == 2


def test_an_output_that_other_work_has_replaced_is_not_taken(project: Project) -> None:
    (project.root / ".slmcompile" / "kept").rename(project.root / "elsewhere")
    with artifact.replacing(project.root / OUT, "train", {}, "cd" * 32) as folder:
        (folder / "weights").write_bytes(b"other")
    assert _find(project) == (None, [])


@pytest.mark.parametrize("change", [
    {"out": "../outside"}, {"out": "/etc"}, {"out": 1}, {"object": 1}, {"metrics": 1},
    {"format_version": "2.0"}, {"stage": None},
])  # fmt: skip
def test_a_forged_record_leads_nowhere(project: Project, change: dict[str, object]) -> None:
    record = project.root / ".slmcompile" / "finished" / f"{WORK}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change), encoding="utf-8")
    (project.root / ".slmcompile" / "kept").rename(project.root / "elsewhere")
    assert _find(project) == (None, [])
    assert finished.forecast(project, "train", WORK) is None


def test_an_output_behind_a_link_is_not_taken(project: Project) -> None:
    (project.root / ".slmcompile" / "kept").rename(project.root / "elsewhere")
    (project.root / "outputs" / "r").rename(project.root / "real")
    (project.root / "outputs" / "r").symlink_to(project.root / "real")
    assert _find(project) == (None, [])


def test_what_no_lock_has_stays_kept_until_it_is_forgotten(project: Project) -> None:
    finished.release(project)
    assert _find(project)[0] == f".slmcompile/kept/{WORK}"
    half = project.root / ".slmcompile" / "kept" / f".{'ef' * 32}.part"
    half.mkdir()
    finished.release(project)
    assert not half.exists()
    os.utime(project.root / ".slmcompile" / "kept" / WORK, (1, 1))
    finished.release(project)
    assert not (project.root / ".slmcompile" / "kept").exists()


def test_what_another_process_puts_in_or_uses_is_not_removed(project: Project) -> None:
    """Its copy has no name yet, and what it takes may have become old meanwhile."""
    kept = project.root / ".slmcompile" / "kept"
    half = kept / f".{'ef' * 32}.part"
    half.mkdir()
    os.utime(kept / WORK, (1, 1))
    with kept_work(project):
        finished.release(project)
        assert {path.name for path in kept.iterdir()} == {half.name, WORK}
    finished.release(project)
    assert not kept.exists()


def test_old_work_that_is_wanted_again_is_kept_again(project: Project) -> None:
    os.utime(project.root / ".slmcompile" / "kept" / WORK, (1, 1))
    assert _find(project)[0] == f".slmcompile/kept/{WORK}"
    finished.release(project)
    assert _find(project)[0] == f".slmcompile/kept/{WORK}"


def test_constant_outputs_are_not_kept(project: Project) -> None:
    spec = SPEC | {"kind": "gate"}
    finished.keep(project, spec, "cd" * 32, project.root / OUT, Texts())
    assert not (project.root / ".slmcompile" / "finished" / f"{'cd' * 32}.json").exists()


def test_what_adapters_have_learnt_is_given_up_when_nobody_wants_it(project: Project) -> None:
    folders = [project.scratch / "scratch" / name / "finished" for name in ("wanted", "old")]
    for folder in folders:
        folder.mkdir(parents=True)
    long_ago = time.time() - 15 * 86400
    os.utime(folders[1], (long_ago, long_ago))
    finished.release(project)
    assert [folder.is_dir() for folder in folders] == [True, False]
