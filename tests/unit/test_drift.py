"""drift finds what is no longer as committed, names it once, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from slmcompile.cli.main import main
from slmcompile.drift import files
from slmcompile.drift.finding import Finding
from slmcompile.drift.look import drift
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.files.artifact import replacing
from slmcompile.lock.file import lock_name
from slmcompile.lock.update import update_lock
from slmcompile.recipe.project import Project
from tests.hub import serving
from tests.pretend import pretend_run
from tests.projects import command, make_repository, plant_modules

OUT = "outputs/tiny/train"
DVC_YAML = "pipelines/tiny/dvc.yaml"


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
    entries, size = [], 0
    for path in sorted((project.root / OUT).iterdir()):
        data = path.read_bytes()
        entries.append({"md5": put(project, data), "relpath": path.name})
        size += len(data)
    md5 = put(project, json.dumps(entries, sort_keys=True).encode(), ".dir")
    (stage,) = (s for s in compile_recipe(project, "tiny", []).own.stages if s.name == "train")
    out = {"path": OUT, "hash": "md5", "md5": md5, "size": size, "nfiles": len(entries)}
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


def test_a_strangers_names_do_not_command_the_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project.pipelines / "\x1b[31mred\n"
    folder.mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    monkeypatch.chdir(project.root)
    for words in (["drift"], ["drift", "--json"], ["sync", "--all", "--check"]):
        assert main(words) != 0
        said = capsys.readouterr().out
        assert "\\u001b[31mred\\n" in said
        assert "\x1b" not in said


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


def test_an_output_whose_cache_object_is_missing_is_named_with_what_keeps_it(
    project: Project,
) -> None:
    pretend_run(project, compile_recipe(project, "tiny", []))
    with replacing(project.root / OUT, "train") as folder:
        (folder / "adapter.bin").write_bytes(b"weights")
    command(project.root, "dvc", "commit", "-f", "--quiet", f"{DVC_YAML}:train")
    lock = (project.pipelines / "tiny" / "dvc.lock").read_text()
    folder_object = yaml.safe_load(lock)["stages"]["train"]["outs"][0]["md5"]
    for lost in (weights(project), blob(project, folder_object)):
        lost.unlink()
        (finding,) = [each for each in drift(project) if each.subject == OUT]
        assert (finding.kind, finding.what) == ("cache", "is here, its cache object is missing")
        mend = finding.mend.split("`")[1]
        assert mend == f"dvc commit -f {DVC_YAML}:train"
        command(project.root, *mend.split())
        assert OUT not in {each.subject for each in drift(project)}
    assert (project.pipelines / "tiny" / "dvc.lock").read_text() == lock


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
    assert finding["hint"] == "run `slmcompile run tiny`"  # there is no remote to pull from
    with (project.root / ".dvc" / "config.local").open("w") as config:
        config.write("[core]\n    remote = store\n")
    assert main(["drift"]) == 2
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert f"`dvc pull {OUT}`" in printed


def test_what_one_cause_did_to_a_recipe_is_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = compile_recipe(project, "tiny", [])
    pretend_run(project, plan)
    outs = {stage.out for stage in plan.stages()}
    shutil.rmtree(project.root / ".dvc/cache")
    shutil.rmtree(project.root / "outputs")
    (finding,) = drift(project)
    assert (finding.kind, finding.subject) == ("cache", "tiny")
    assert set(finding.paths) == outs
    assert finding.what.startswith(f"{len(outs)} recorded outputs are neither here nor in")
    assert finding.mend == "run `slmcompile run tiny`"
    shutil.rmtree(project.pipelines)
    monkeypatch.chdir(project.root)
    assert main(["drift"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("generated    tiny: ")
    assert " files are missing (" in line


def test_a_changed_size_is_seen_at_once_and_its_mend_works(project: Project) -> None:
    path = project.root / OUT / "adapter.bin"
    path.unlink()
    path.write_bytes(b"weights and more")
    (finding,) = drift(project)
    assert (finding.kind, finding.subject) == ("damaged", OUT)
    command(project.root, *finding.mend.split("`")[1].split())
    assert path.read_bytes() == b"weights"
    assert found(project) == []


def test_where_the_cache_is_damaged_too_its_object_is_named(project: Project) -> None:
    (project.root / OUT / "adapter.bin").write_bytes(b"weights and more")
    weights(project).write_bytes(b"weights and more")  # as one write does to two hard links
    (finding,) = drift(project)
    blob = weights(project).relative_to(project.root).as_posix()
    assert finding.mend == f"remove {blob} and run `slmcompile run tiny`, which makes it anew"


def test_an_edited_metric_is_named(project: Project) -> None:
    plan = compile_recipe(project, "tiny", [])
    shutil.rmtree(project.root / "outputs")
    pretend_run(project, plan)
    metric = project.pipelines / "tiny/metrics/torch.json"
    metric.write_text(metric.read_text().replace("0.9", "0.8"))
    (finding,) = [each for each in drift(project) if "metrics" in each.subject]
    assert finding.what == "is not as its stage wrote it"
    assert "slmcompile run tiny" in finding.mend
    shutil.rmtree(project.root / ".dvc/cache")
    (finding,) = [each for each in drift(project) if "metrics" in each.subject]
    assert finding.mend == "run `git checkout pipelines/tiny/metrics/torch.json`"


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


@pytest.mark.parametrize("where", ["constraints.txt", "a spec"])
def test_a_version_that_is_none_is_in_no_command(project: Project, where: str) -> None:
    plan = compile_recipe(project, "tiny", [])
    evil = "[x](http://evil)"
    if where == "constraints.txt":
        text = f"pytest=={evil}\npyyaml==1;touch x\nnumpy==1.0\xff\n".encode("latin-1")
        (project.root / where).write_bytes(text)
    else:
        sync(project, [plan])
        spec = project.root / next(plan.stages()).spec_path
        spec.write_text(re.sub('"torch": "[^"]*"', f'"torch": "{evil}"', spec.read_text()))
        assert evil in spec.read_text()
    found = list(files.environment(project, [plan]))
    assert [each.subject for each in found] == (["pyyaml"] if where == "constraints.txt" else [])
    assert all(each.mend == "pip install pyyaml==1" for each in found)


def test_a_link_in_place_of_the_constraints_is_not_followed(project: Project) -> None:
    (project.root / "other").write_text("pytest==0.1\n")
    (project.root / "constraints.txt").symlink_to("other")
    assert list(files.environment(project, [compile_recipe(project, "tiny", [])])) == []


def test_a_file_that_is_not_the_locked_one_is_named(project: Project) -> None:
    update_lock(project)
    path = project.root / "data/tiny/commands.jsonl"
    path.write_text(path.read_text() + '{"text": "x", "label": "y"}\n')
    (finding,) = [each for each in drift(project) if each.kind == "lock"]
    assert finding.subject == "data/tiny/commands.jsonl"
    assert "lock --upgrade" in finding.mend


def test_an_edited_data_file_is_named_until_it_is_taken_back(project: Project) -> None:
    def edited() -> list[Finding]:
        return [each for each in drift(project) if each.kind in {"input", "lock"}]

    path = project.root / "data/tiny/commands.jsonl"
    before = path.read_text()
    path.write_text(before + '{"text": "x", "label": "y"}\n')
    assert edited() == []  # the data stage has not run
    path.write_text(before)
    pretend_run(project, compile_recipe(project, "tiny", []))
    assert edited() == []
    path.write_text(before + '{"text": "x", "label": "y"}\n')
    (finding,) = edited()
    assert (finding.kind, finding.subject) == ("input", "data/tiny/commands.jsonl")
    assert re.fullmatch(r"changed since \S+/(base|data) ran", finding.what)
    assert finding.mend == "run `slmcompile run tiny`, or take the file back"
    path.write_text(before)
    assert edited() == []
    update_lock(project)
    path.write_text(before + "\n")
    assert [each.kind for each in edited()] == ["lock"]  # once


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
    assert lock_name("hubbed") in finding.what
