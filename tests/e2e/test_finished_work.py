"""A finished stage is never lost, and names are not content: the tiny model, for real.

The tests of this module go through one project in order, as a person would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.files import artifact
from slmcompile.recipe.project import Project
from slmcompile.state.state import md5_file
from tests.e2e.test_tiny import Workplace
from tests.projects import commit, environment, make_repository

MOVED = [
    f"{key}=data/tiny/moved.jsonl" for key in ("data.source.path", "model.source.tokenizer_text")
]
"""Overrides that read the rows, and the text that the tokenizer is made of, from another path."""

SHOWING = {"check", "report", "gate"}
"""Stages that show names, and judge or draw in a second."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(make_repository(tmp_path_factory.mktemp("project").resolve()))


def _left(work: Workplace) -> list[str]:
    scratch = work.root / ".slmcompile"
    folders = [scratch / "kept", scratch / "scratch"]
    return [path.as_posix() for folder in folders if folder.exists() for path in folder.iterdir()]


def test_training_that_ended_before_the_lock_was_written_is_not_repeated(work: Workplace) -> None:
    work.run("run", "tiny", "--select", "+check")
    # What a kill between the stage's end and the lock's write leaves: DVC knows nothing of it.
    work.run("exec", "pipelines/tiny/plan/train.json")
    adapter = work.adapter()
    assert work.ran() == {"base", "data", "check", "train"}
    assert work.plan()["train"] == "restore"
    done = work.run("run", "tiny")
    assert "the same work was finished before" in done.stdout
    assert "train" not in work.ran()
    assert work.adapter() == adapter
    assert work.metrics("torch")["exact_match"] > 0.8
    assert not _left(work)


def test_a_recipe_under_another_name_computes_nothing_again(work: Workplace) -> None:
    adapter = work.adapter()
    recipes = work.root / "recipes"
    (recipes / "tiny.yaml").rename(recipes / "renamed.yaml")
    done = work.run("run", "renamed")
    assert "take from outputs/tiny/train" in done.stdout
    assert work.ran() <= SHOWING
    renamed = work.root / "outputs/renamed/train/adapter/adapter_model.safetensors"
    assert artifact.sha256_file(renamed) == adapter
    assert not _left(work)
    (recipes / "renamed.yaml").rename(recipes / "tiny.yaml")


def test_the_same_rows_under_another_path_compute_nothing_again(work: Workplace) -> None:
    commit(work.root, "ran")
    rows = work.root / "data" / "tiny" / "commands.jsonl"
    rows.rename(rows.with_name("moved.jsonl"))
    planned = work.plan(*MOVED)
    assert {name for name, action in planned.items() if action == "run"} <= SHOWING
    why = work.run("why", "tiny/data", *MOVED).stdout
    assert "data/tiny/moved.jsonl" in why
    work.run("run", "tiny", *MOVED)
    assert work.ran() <= SHOWING
    assert not _left(work)


def test_other_bytes_under_the_same_path_are_trained(work: Workplace) -> None:
    rows = work.root / "data" / "tiny" / "moved.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
    rows.write_text("".join(lines[:-8]), encoding="utf-8")
    work.run("run", "tiny", *MOVED, "--select", "+train")
    assert {"data", "train"} <= work.ran()


def test_damaged_work_of_another_name_is_done_anew(work: Workplace) -> None:
    recipes = work.root / "recipes"
    (recipes / "again.yaml").write_bytes((recipes / "tiny.yaml").read_bytes())
    weights = work.root / "outputs/tiny/train/adapter/adapter_model.safetensors"
    good, data = work.adapter(), bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)  # in place, and so in DVC's cache too, which holds the same file
    done = work.run("run", "again", *MOVED, "--select", "+train")
    assert "its bytes are not those that were written" in done.stdout
    assert "train" in work.ran()
    again = work.root / "outputs/again/train/adapter/adapter_model.safetensors"
    assert artifact.sha256_file(again) == good


def test_a_list_of_claims_that_a_kill_has_cut_stops_no_run(work: Workplace) -> None:
    claims = work.root / ".dvc" / "tmp" / "rwlock"
    claims.write_bytes(b"")
    assert "rwlock" in work.run("drift", code=2).stdout
    done = work.run("run", "again", *MOVED, "--select", "+train", "train.seed=3")
    assert "rwlock: cut short when DVC was killed" in done.stdout
    assert "train" in work.ran()


def test_a_lock_that_fits_does_not_make_another_result_of_an_output(work: Workplace) -> None:
    """A recipe that learns nothing, over what one that has learnt left, and a lock that agrees."""
    work.run("run", "tiny", *MOVED, "--select", "+train")
    learnt, still = work.adapter(), [*MOVED, "train.learning_rate=1e-12"]
    work.ran()
    _pretend_that_it_ran(work, still)
    planned = work.plan(*still)
    assert planned["train"] == "run"
    why = work.run("why", "tiny/train", *still).stdout
    assert "outputs/tiny/train is of other work than dvc.lock says" in why
    work.run("run", "tiny", *still, "--select", "+train")
    assert "train" in work.ran()
    assert work.adapter() != learnt
    trained = json.loads((work.root / "pipelines/tiny/metrics/train.json").read_text())
    assert trained["train_loss_last"] > 0.8 * trained["train_loss_first"]


def _pretend_that_it_ran(work: Workplace, overrides: list[str]) -> None:
    """Writes the recipe's specs, and a lock that has them beside the outputs that lie here."""
    project = Project(work.root)
    sync(project, [compile_recipe(project, "tiny", overrides)])
    lock = work.root / "pipelines/tiny/dvc.lock"
    content = yaml.safe_load(lock.read_text(encoding="utf-8"))
    for entry in content["stages"].values():
        for dep in entry["deps"]:
            if dep["path"].startswith("pipelines/"):
                dep["md5"] = md5_file(work.root / dep["path"])
                dep["size"] = (work.root / dep["path"]).stat().st_size
    lock.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def test_two_recipes_started_at_once_both_end_well(work: Workplace) -> None:
    for number in range(3):
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "slmcompile", "run", name, *MOVED, f"data.seed={seed}",
                 "--select", "+data"],
                cwd=work.root, env=environment(), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for name, seed in (("tiny", 10 + number), ("again", 20 + number))
        ]  # fmt: skip
        told = [run.communicate(timeout=120)[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], "\n".join(told)


def test_a_gate_is_judged_again_where_its_lock_says_that_it_has_passed(work: Workplace) -> None:
    lock = work.root / "pipelines/tiny/dvc.lock"

    def entries() -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))
        return content

    work.run("run", "tiny", *MOVED)
    passed = entries()["stages"]["gate"]
    bars = [*MOVED, "gates=[{metric: perplexity, max: 1.00001}]"]
    work.run("run", "tiny", *bars, code=3)
    content = entries()
    made = {out["path"]: out for each in content["stages"].values() for out in each["outs"]}
    for dep in passed["deps"]:
        file = work.root / dep["path"]
        now = made.get(dep["path"]) or {"md5": md5_file(file), "size": file.stat().st_size}
        dep.update(now)
    content["stages"]["gate"] = passed
    lock.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    assert work.plan(*bars)["gate"] in {"unchanged", "restore"}
    assert "gates failed" in work.run("run", "tiny", *bars, code=3).stderr
