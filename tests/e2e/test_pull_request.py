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
from tests.projects import command

PRODUCTION = ("--to", "production")


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
    forge.job("ci", "promote", *PRODUCTION, at=merged)
    command(clone, "git", "fetch", "-q", "--tags", "origin")
    assert command(clone, "git", "tag").stdout.split() == ["tiny@v1.0.0"]
