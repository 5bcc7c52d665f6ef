"""A pull request from its plan to a version in production, and back, as people live it.

Real git repositories, a real DVC remote, real trainings of the tiny recipe, and a host that
answers over HTTP. The tests of this module are one story, in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fake_github import serving
from tests.forge import Forge, changed_text, with_gate
from tests.projects import command, slmcompile

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with serving() as fake:
        yield Forge(tmp_path_factory.mktemp("forge").resolve(), fake)


def test_a_first_version_is_planned_trained_merged_and_tagged(forge: Forge) -> None:
    clone = forge.contributor("first")
    forge.edit(clone, "a bar", tiny=with_gate(clone, 0.5))
    head = forge.open(1, clone)
    comment = forge.plan(1)
    assert "adds the bar" in comment
    assert "**1 to train.**" in comment or "to train" in comment
    said = forge.approve(1)
    forge.queued(1, code=4)
    told = forge.train(said)
    result = forge.push(said, told)
    assert "every bar met" in result
    forge.take_over(1, clone)
    forge.queued(1)
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


def test_who_measures_otherwise_is_measured_as_the_target_does_too(forge: Forge) -> None:
    """And trains nothing, for the model is the one in production."""
    clone = forge.contributor("measured")
    text = changed_text(clone, "max_new_tokens: 8", "max_new_tokens: 9")
    forge.edit(clone, "longer", tiny=text)
    forge.open(6, clone)
    comment = forge.plan(6)
    assert "other evaluation: figures do not compare" in comment
    assert "Nothing to train" in comment
    said = forge.approve(6)
    event = forge.comment_event(said)
    done = forge.job("ci", "train", event=event)
    assert "held on 72 of the target's 72 test rows" in done.stderr
    assert not [line for line in done.stdout.splitlines() if "tiny/train: step" in line]
    told = forge.outputs()
    # Case artifact-replaced: another record than the training's own.
    forge.job("ci", "push", "--record", "0" * 64, event=event, code=74)
    (answer,) = [each for each in forge.fake.thread(6) if "slmcompile answer" in each]
    assert "Trained, and not pushed" in answer
    # Case right-withdrawn: between the two jobs.
    forge.fake.permissions["ann"] = ("read", "read")
    forge.job("ci", "push", "--record", told["record"], event=event, code=77)
    forge.fake.permissions["ann"] = ("write", "write")
    assert "are not comparable" in forge.push(said, told)
    # Case two-trains: said again, it finds the result and says so; nothing is pushed once more.
    again = forge.approve(6)
    result = forge.branch("measured")
    told = forge.train(again)
    forge.push(again, told)
    assert forge.branch("measured") == result
    # Case more-than-pipelines: what else is pushed on top voids it.
    forge.take_over(6, clone)
    forge.edit(clone, "more", tiny=changed_text(clone, "eval:\n", "eval:\n  seed: 3\n"))
    forge.open(6, clone)
    forge.job("ci", "authorise", event=forge.comment_event(again), code=4)
    forge.put(6, result)


def test_a_runner_that_is_killed_is_followed_by_one_that_goes_on(forge: Forge) -> None:
    """Case killed-and-resumed."""
    clone = forge.contributor("killed")
    text = changed_text(clone, "learning_rate: 4e-3", "num_train_epochs: 40\n  learning_rate: 3e-3")
    forge.edit(clone, "longer", tiny=text)
    forge.open(7, clone)
    forge.plan(7)
    said = forge.approve(7)
    kept = forge.store / "pr/7/slmcompile/checkpoints"
    forge.kill_when(
        lambda: any(kept.glob("*/files.json")),
        *("ci", "train", "--every", "0.2"),
        event=forge.comment_event(said),
    )
    told = forge.train(said)
    assert not any(kept.glob("*/files.json"))  # of no use once it is done
    forge.push(said, told)
    forge.take_over(7, clone)
    record = json.loads((clone / "pipelines/tiny/plots/train.json").read_text(encoding="utf-8"))
    assert record["resumed_from"] >= 10


def test_the_second_of_two_for_one_recipe_is_told_that_it_is_stale(forge: Forge) -> None:
    """Cases second-is-stale and stale-at-merge; both were trained against the same target."""
    forge.merge(7)
    forge.job("ci", "promote")
    assert "tiny@v1.2.0" in forge.tags()
    merged = forge.merge(6, "-X", "theirs")
    forge.job("ci", "promote", at=merged, code=4)
    assert "what was merged is not what was trained" in forge.fake.thread(6)[-1]
    assert "tiny@v1.3.0" not in forge.tags()
    # Case status-forged: nobody has asked what anybody says of a commit.
    asked = forge.fake.asked()
    assert not [line for line in asked if "status" in line or "check" in line]
