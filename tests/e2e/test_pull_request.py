"""A pull request from its plan to a version in production, and back, as people live it.

Real git repositories, a real DVC remote, real trainings of the tiny recipe, and a host that
answers over HTTP. The tests of this module are one story, in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_github import serving
from tests.forge import Forge
from tests.projects import command, slmcompile


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with serving() as fake:
        yield Forge(tmp_path_factory.mktemp("forge").resolve(), fake)


def with_gate(clone: Path, minimum: float, **train: object) -> str:
    text = (clone / "recipes/tiny.yaml").read_text(encoding="utf-8").split("gates:")[0]
    keys = "".join(f"  {key}: {value}\n" for key, value in train.items())
    text = text.split("train:\n")[0] + (f"train:\n{keys}" if keys else "")
    return f"{text}gates:\n  - {{metric: exact_match, artifact: cpu-fp32, min: {minimum}}}\n"


def test_a_first_version_is_planned_trained_merged_and_tagged(forge: Forge) -> None:
    clone = forge.contributor("first")
    forge.edit(clone, "a bar", tiny=with_gate(clone, 0.5))
    head = forge.open(1, clone)
    comment = forge.plan(1)
    assert "changes a bar" in comment
    assert "**1 to train.**" in comment or "to train" in comment
    said = forge.approve(1)
    told = forge.train(said)
    result = forge.push(said, told)
    assert "every bar met" in result
    forge.take_over(1, clone)
    changed = command(clone, "git", "diff", "--name-only", head, "HEAD").stdout.split()
    assert changed
    assert all(path.startswith("pipelines/") for path in changed)
    statement = json.loads((clone / "pipelines/tiny/statement.json").read_text())
    assert statement["payloadType"] == "application/vnd.in-toto+json"
    merged = forge.merge(1)
    forge.job("ci", "promote", at=merged)
    assert forge.tags() == {"tiny@v1.0.0"}
    assert "`slmcompile fetch tiny@v1.0.0`" in forge.fake.thread(1)[-1]
    # Who wants it in production says so, once; later versions go there when they are merged.
    slmcompile(clone, "promote", "tiny", "--to", "production")
    assert forge.tags() == {"tiny@v1.0.0", "tiny#production#1"}
    # Nothing is new at another commit of the target.
    forge.job("ci", "promote", at=merged)
    assert len(forge.tags()) == 2


def test_a_fork_misses_a_bar_trains_again_and_goes_to_production(forge: Forge) -> None:
    clone = forge.contributor("fork")
    forge.edit(clone, "learns nothing", tiny=with_gate(clone, 0.5, learning_rate="1e-12"))
    forge.open(2, clone, fork=True)
    forge.plan(2)
    first = forge.approve(2)
    told = forge.train(first, code=3)
    assert told["code"] == "3"
    result = forge.push(first, told, code=3)
    assert "bars are missed" in result
    assert "exact&#95;match of cpu-fp32" in result
    # A push voids what was approved, before and behind the training.
    forge.edit(clone, "learns", tiny=with_gate(clone, 0.6, learning_rate="4e-3"))
    forge.open(2, clone, fork=True)
    stale = forge.comment_event(first)
    forge.job("ci", "authorise", event=stale, code=4)
    forge.job("ci", "train", event=stale, code=4)
    forge.job("ci", "push", "--record", told["record"], event=stale, code=4)
    forge.plan(2)
    said = forge.approve(2)
    told = forge.train(said)
    result = forge.push(said, told)
    assert "every bar met" in result
    assert "In brackets: the target" in result
    assert f"git pull ORIGIN {forge.result_ref(2)}" in result
    forge.take_over(2, clone, fork=True)
    merged = forge.merge(2)
    done = forge.job("ci", "promote", at=merged)
    assert "tiny@v1.1.0 is production" in done.stdout
    assert "tiny#production#2" in forge.tags()


def test_a_machine_that_never_trained_has_what_is_in_production(forge: Forge) -> None:
    elsewhere = forge.contributor("elsewhere")
    slmcompile(elsewhere, "fetch", "tiny@production")
    assert (elsewhere / "fetched/tiny-v1.1.0").is_dir()
    shown = slmcompile(elsewhere, "versions", "tiny").stdout
    assert "production" in shown
    slmcompile(elsewhere, "rollback", "tiny")
    assert "tiny#production#3" in forge.tags()
    slmcompile(elsewhere, "fetch", "tiny@production")
    assert (elsewhere / "fetched/tiny-v1.0.0").is_dir()
    shown = command(elsewhere, "gto", "show", "tiny").stdout
    assert "v1.1.0" in shown
