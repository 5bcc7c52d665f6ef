"""Two pull requests at a time: different recipes merge in either order, and are versions then."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from tests.fake_github import serving
from tests.forge import Forge
from tests.projects import command

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with serving() as fake:
        found = Forge(tmp_path_factory.mktemp("forge").resolve(), fake)
        trained(found, 9, "tiny", epochs=1)
        found.job("ci", "promote", at=found.merge(9))
        yield found


def trained(forge: Forge, number: int, name: str, epochs: int) -> str:
    """A pull request that adds or changes a recipe, with its result; returns the head."""
    clone = forge.contributor(name)
    text = (clone / "recipes/tiny.yaml").read_text(encoding="utf-8").split("train:\n")[0]
    forge.edit(clone, name, **{name: f"{text}train:\n  num_train_epochs: {epochs}\n"})
    forge.open(number, clone)
    forge.plan(number)
    said = forge.approve(number)
    forge.push(said, forge.train(said))
    forge.take_over(number, clone)
    return forge.fake.pulls[number].head


def merged(forge: Forge, heads: tuple[str, ...], folder: Path) -> str:
    """The tree that merging in this order makes; no conflict is mended."""
    command(forge.folder, "git", "clone", "-q", str(forge.origin), str(folder))
    ann = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
    for head in heads:
        command(folder, "git", "fetch", "-q", "origin", head)
        command(folder, "git", *ann, "merge", "-q", "--no-ff", "-m", "merge", head)
    return command(folder, "git", "rev-parse", "HEAD^{tree}").stdout.strip()


@pytest.mark.parametrize(("first", "epochs", "version"), [(1, 1, "v1.0.0"), (3, 2, "v1.1.0")])
def test_two_that_add_or_retrain_a_recipe_each(
    forge: Forge, tmp_path: Path, first: int, epochs: int, version: str
) -> None:
    """Case both-orders; what they share, base, rows and the base's answers, is the target's."""
    heads = tuple(
        trained(forge, number, name, epochs)
        for number, name in ((first, "one"), (first + 1, "two"))
    )
    trees = {
        merged(forge, order, tmp_path / str(at)) for at, order in enumerate(permutations(heads))
    }
    assert len(trees) == 1
    for number in (first + 1, first):
        forge.job("ci", "promote", at=forge.merge(number))
    assert {f"one@{version}", f"two@{version}"} <= forge.tags()
