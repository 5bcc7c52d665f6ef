"""drift finds what is no longer as committed, names it once, and changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from slmcompile.artifact import replacing
from slmcompile.cli import main
from slmcompile.drift import files
from slmcompile.drift.look import drift
from slmcompile.lock.file import NAME
from slmcompile.lock.update import update_lock
from slmcompile.pipeline.sync import compile_recipe, sync
from slmcompile.project import Project
from tests.hub import serving
from tests.projects import command, make_repository, plant_modules

OUT = "outputs/tiny/train"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository in which tiny's train stage has run, as DVC records it."""
    project = Project(make_repository(tmp_path.resolve()))
    (project.recipes / "quickstart.yaml").unlink()
    plan = compile_recipe(project, "tiny", [])
    sync(project, [plan])
    with replacing(project.root / OUT, "train") as folder:
        (folder / "adapter.bin").write_bytes(b"weights")
        (folder / "notes.txt").write_text("text")
    record(project)
    return project


def record(project: Project) -> None:
    """What DVC does behind a stage: objects into the cache, hashes into the lock."""
    entries = []
    for path in sorted((project.root / OUT).iterdir()):
        data = path.read_bytes()
        entries.append({"md5": put(project, data), "relpath": path.name})
    md5 = put(project, json.dumps(entries, sort_keys=True).encode(), ".dir")
    (stage,) = (s for s in compile_recipe(project, "tiny", []).own.stages if s.name == "train")
    out = {"path": OUT, "hash": "md5", "md5": md5, "size": 1, "nfiles": len(entries)}
    lock = {"schema": "2.0", "stages": {"train": {"cmd": stage.command, "outs": [out]}}}
    (project.pipelines / "tiny" / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")


def put(project: Project, data: bytes, suffix: str = "") -> str:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    path = blob(project, md5 + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return md5 + suffix


def blob(project: Project, md5: str) -> Path:
    return project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def weights(project: Project) -> Path:
    return blob(project, hashlib.md5(b"weights", usedforsecurity=False).hexdigest())


def found(
    project: Project, *, deep: bool = False, remote: bool = False, upstream: bool = False
) -> list[tuple[str, str]]:
    looked = drift(project, deep=deep, remote=remote, upstream=upstream)
    return [(each.kind, each.subject) for each in looked]


def snapshot(project: Project) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime for path in project.root.rglob("*")}


def test_no_drift_where_nothing_changed(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(project)
    monkeypatch.chdir(project.root)
    assert main(["drift", "--deep"]) == 0
    assert capsys.readouterr().out == "no drift\n"
    assert snapshot(project) == before


def test_an_output_in_the_workspace_or_in_the_cache_is_not_missing(project: Project) -> None:
    weights(project).unlink()
    assert found(project) == []
    (project.root / OUT / "adapter.bin").unlink()
    assert found(project) == [("cache", OUT)]


def test_an_output_that_is_nowhere_is_named_with_its_mend(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (project.root / OUT).iterdir():
        path.unlink()
    assert found(project) == []  # DVC restores it
    weights(project).unlink()
    monkeypatch.chdir(project.root)
    assert main(["drift", "tiny", "--json"]) == 2
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == "cache"
    assert f"dvc pull {OUT}" in finding["mend"]
    assert main(["drift"]) == 2
    assert capsys.readouterr().out.count("\n") == 1


def test_damage_is_found_by_a_deep_look_alone(project: Project) -> None:
    (project.root / OUT / "adapter.bin").write_bytes(b"w3ights")
    assert found(project) == []
    assert found(project, deep=True) == [("damaged", OUT)]


def test_an_edited_cache_blob_is_damage(project: Project) -> None:
    for path in (project.root / OUT).iterdir():
        path.unlink()
    (project.root / OUT).rmdir()
    weights(project).write_bytes(b"w3ights")
    assert found(project) == []
    (finding,) = drift(project, deep=True)
    assert "adapter.bin" in finding.what


def test_what_the_remote_lacks_is_named_until_it_is_pushed(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    remote = tmp_path_factory.mktemp("remote")
    config = project.root / ".dvc" / "config.local"
    config.write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {remote}\n")
    canary = remote.parent / f"{remote.name}-canary"
    plant_modules(project.root, canary)
    command(project.root, "dvc", "push", "--quiet", OUT)
    assert found(project, remote=True) == []
    next(path for path in remote.rglob("*") if path.is_file() and path.suffix != ".dir").unlink()
    (finding,) = drift(project, remote=True)
    assert finding.what == "the remote store lacks 1 of its files"
    assert not canary.exists()


def test_no_remote_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert main(["drift", "--remote"]) == 69
    assert "no default DVC remote" in capsys.readouterr().err


def test_a_hand_edited_generated_file_is_named(project: Project) -> None:
    path = project.pipelines / "tiny" / "dvc.yaml"
    path.write_text(path.read_text() + "# mine\n")
    orphan = project.pipelines / "tiny" / "plan" / "extra.json"
    orphan.write_text("{}")
    assert found(project) == [
        ("generated", "pipelines/tiny/dvc.yaml"),
        ("generated", "pipelines/tiny/plan/extra.json"),
    ]


def test_another_package_is_one_finding_and_not_every_spec_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in project.pipelines.glob("*/plan/*.json"):
        path.write_text(path.read_text().replace('"peft": "', '"peft": "0.'))
    assert found(project) == [("environment", "peft")]


def test_another_package_than_the_constraints_is_named(project: Project) -> None:
    lines = "# exact\npytest==0.1\npyyaml==99 ; python_version > '3'\nnot-installed==1.0\n"
    (project.root / "constraints.txt").write_text(lines)
    plans = [compile_recipe(project, "tiny", [])]
    assert [each.subject for each in files.environment(project, plans)] == ["pytest", "pyyaml"]


def test_a_file_that_is_not_the_locked_one_is_named(project: Project) -> None:
    update_lock(project)
    path = project.root / "data/tiny/commands.jsonl"
    path.write_text(path.read_text() + '{"text": "x", "label": "y"}\n')
    (finding,) = [each for each in drift(project) if each.kind == "lock"]
    assert finding.subject == "data/tiny/commands.jsonl"
    assert "lock --upgrade" in finding.mend


@pytest.fixture
def hub_commit(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    (project.recipes / "hubbed.yaml").write_text(
        "defaults: [{data: tiny-commands}, {train: tiny}, {eval: text}, {target: [cpu-fp32]},"
        " _self_]\nmodel: {name: m, source: {type: hub, repo_id: owner/model, revision: main}}\n"
    )
    with serving() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        server.commits["models", "owner/model", "main"] = "1" * 40
        yield server.commits  # type: ignore[misc]


def test_a_moved_branch_is_named_when_asked(project: Project, hub_commit: dict) -> None:  # type: ignore[type-arg]
    update_lock(project)
    sync(project, [compile_recipe(project, name, []) for name in project.names()])
    assert found(project, upstream=True) == []
    hub_commit["models", "owner/model", "main"] = "2" * 40
    assert found(project) == []
    (finding,) = drift(project, upstream=True)
    assert (finding.kind, finding.subject) == ("upstream", "owner/model@main")
    assert NAME in finding.what
