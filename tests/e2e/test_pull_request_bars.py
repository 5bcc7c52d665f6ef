"""What a pull request cannot get past: the target's bars, its test rows, its way to measure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from slmcompile.state.state import md5_file
from tests.fake_github import serving
from tests.forge import Forge, changed_text, with_gate
from tests.projects import commit, slmcompile

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """With a version whose bar others have to meet."""
    with serving() as fake:
        found = Forge(tmp_path_factory.mktemp("forge").resolve(), fake)
        clone = found.contributor("first")
        found.edit(clone, "a bar", tiny=with_gate(clone, 0.6, learning_rate="4e-3"))
        found.open(1, clone)
        found.plan(1)
        said = found.approve(1)
        found.push(said, found.train(said))
        found.take_over(1, clone)
        found.job("ci", "promote", at=found.merge(1))
        yield found


def test_a_bar_that_is_taken_away_is_held_all_the_same(forge: Forge) -> None:
    """Case gate-lowered, and poisoned-lock: locks and figures of another model come with it."""
    clone = forge.contributor("lowered")
    text = changed_text(clone, "learning_rate: 4e-3", "learning_rate: 1e-12").split("gates:")[0]
    forge.edit(clone, "no bars", tiny=text)
    slmcompile(clone, "sync", "--all")
    poison(clone)
    commit(clone, "as if it had run")
    forge.open(3, clone, fork=True)
    assert "takes the bar" in forge.plan(3)
    said = forge.approve(3)
    told = forge.train(said, code=3)
    result = forge.push(said, told, code=3)
    assert "bars of the target are missed: exact&#95;match of cpu-fp32" in result


def poison(clone: Path) -> None:
    """Has the lock of the model in production say what the recipe's specs are now."""
    lock = clone / "pipelines/tiny/dvc.lock"
    content = yaml.safe_load(lock.read_text(encoding="utf-8"))
    for entry in content["stages"].values():
        for dep in entry["deps"]:
            if dep["path"].startswith("pipelines/") and (clone / dep["path"]).is_file():
                dep["md5"] = md5_file(clone / dep["path"])
    lock.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def test_an_easier_test_is_no_way_past_a_bar(forge: Forge) -> None:
    """Case test-rows-changed: it answers its own rows, which are of two commands, and no others."""
    clone = forge.contributor("easier")
    path = clone / "data/tiny/commands.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    two = sorted({row["label"] for row in rows})[:2]
    kept = [json.dumps(row) for row in rows if row["label"] in two]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    commit(clone, "fewer commands")
    forge.open(4, clone, fork=True)
    assert "figures do not compare with the target's" in forge.plan(4)
    said = forge.approve(4)
    told = forge.train(said, code=3)
    result = forge.push(said, told, code=3)
    assert "bars of the target are missed" in result


def test_rows_that_the_target_tests_with_are_not_trained_on(forge: Forge) -> None:
    """Case trained-on-the-test: another split of the same rows."""
    clone = forge.contributor("seeded")
    forge.edit(clone, "split", tiny=changed_text(clone, "eval:\n", "data:\n  seed: 5\neval:\n"))
    forge.open(5, clone, fork=True)
    forge.plan(5)
    said = forge.approve(5)
    told = forge.train(said, code=65)
    assert "test rows are trained on" in forge.push(said, told, code=65)
