"""What is done to a pull request's promotion and training by those who want another outcome.

One training, of a fork's pull request of a project that trusts no key, so that a statement proves
nothing by its signature. The tests of this module are one story, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from slmcompile.ci.propose import propose
from slmcompile.files.revision import resolve
from slmcompile.provenance.envelope import open_sealed, seal
from slmcompile.provenance.statement import Statement
from slmcompile.recipe.project import Project
from tests.fake_github import serving
from tests.forge import Forge, with_gate
from tests.projects import command, commit, slmcompile

pytestmark = pytest.mark.long

STATEMENT = "pipelines/tiny/statement.json"


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A pull request that is merged, and not promoted yet."""
    with serving() as fake:
        forge = Forge(tmp_path_factory.mktemp("attacks").resolve(), fake)
        clone = forge.contributor("good")
        forge.edit(clone, "a bar", tiny=with_gate(clone, 0.5))
        forge.open(1, clone, fork=True)
        forge.plan(1)
        said = forge.approve(1)
        fake.pulls[1].repository = None  # it was deleted; the host keeps its commits
        # Case workspace-of-another: what lies there was not made by this job.
        used = forge.folder / "used"
        used.mkdir()
        (used / "json.py").write_text("", encoding="utf-8")
        words = ("ci", "train", "--workspace", str(used))
        forge.job(*words, event=forge.comment_event(said), code=77)
        forge.push(said, forge.train(said))
        forge.take_over(1, clone, fork=True)
        forge.merge(1)
        yield forge


def side(forge: Forge, recipe: str, statement: Statement) -> str:
    """A commit upon the target with a statement, as whoever may merge could make it."""
    owner = forge.owner
    command(owner, "git", "fetch", "-q", "origin")
    command(owner, "git", "checkout", "-q", "-B", "side", "origin/main")
    folder = owner / "pipelines" / recipe
    folder.mkdir(exist_ok=True)
    (folder / "statement.json").write_bytes(seal(statement, None))
    commit(owner, "by hand")
    command(owner, "git", "push", "-q", "--force", "origin", "HEAD:refs/heads/side")
    return forge.head(owner)


def stated(forge: Forge) -> Statement:
    data = command(forge.owner, "git", "show", f"origin/main:{STATEMENT}").stdout.encode()
    return open_sealed(data, STATEMENT).statement


def another_figure(of: Statement) -> Statement:
    values = {**of.metrics["cpu-fp32"], "exact_match": 0.123}
    return replace(of, metrics={**of.metrics, "cpu-fp32": values})


def another_model(of: Statement) -> Statement:
    """The train stage's place has what another stage made."""
    train, base = (of.stage(name) for name in ("train", "tiny/score"))
    made = replace(train, manifest=base.manifest, object=base.object, size=base.size)
    return replace(of, stages=tuple(made if each is train else each for each in of.stages))


def another_pull_request(of: Statement) -> Statement:
    return replace(of, pull_request=2**62)


def another_plan(of: Statement) -> Statement:
    train = of.stage("train")
    made = replace(train, fingerprint="0" * 64)
    return replace(of, stages=tuple(made if each is train else each for each in of.stages))


@pytest.mark.parametrize(
    ("forged", "code", "said"),
    [
        (another_figure, 74, "other figures were measured than stated"),
        (another_model, 74, "tiny/train is not what is stated"),
        (another_pull_request, 69, "neither promoted nor with the pull request"),
        (another_plan, 4, "what was merged is not what was trained"),
    ],
)
def test_a_forged_statement_makes_no_version(
    forge: Forge, forged: Callable[[Statement], Statement], code: int, said: str
) -> None:
    """Cases statement-*, where no key is trusted."""
    at = side(forge, "tiny", forged(stated(forge)))
    done = forge.job("ci", "promote", at=at, code=code)
    assert said in done.stderr
    assert not forge.tags()
    assert not (forge.store / "main/slmcompile").exists()


def test_other_bytes_under_a_name_are_told_and_left(forge: Forge) -> None:
    """Case same-md5."""
    own = forge.store / "pr/1/files/md5"
    weights = max((path for path in own.glob("*/*")), key=lambda path: path.stat().st_size)
    there = forge.store / "main/files/md5" / weights.relative_to(own)
    there.parent.mkdir(parents=True)
    there.write_bytes(b"others")
    done = forge.job("ci", "promote", at="origin/main", code=74)
    assert "other bytes lie there as" in done.stderr
    assert there.read_bytes() == b"others"
    assert not forge.tags()
    there.unlink()


def test_a_recipe_that_is_stale_keeps_no_other_from_its_version(forge: Forge) -> None:
    """Cases both-orders and first-version: whose statement is right becomes one."""
    gone = replace(stated(forge), recipe="gone")
    at = side(forge, "gone", gone)
    done = forge.job("ci", "promote", at=at, code=4)
    assert "gone: is stated, and is no recipe any more" in done.stderr
    assert forge.tags() == {"tiny@v1.0.0"}
    # Nobody has given production to any version: so no later one has it by itself.
    again = replace(stated(forge), approver="carl")
    at = side(forge, "tiny", again)
    forge.job("ci", "promote", at=at)
    assert forge.tags() == {"tiny@v1.0.0", "tiny@v1.1.0"}


def test_what_a_killed_promotion_owes_is_done_by_the_next_and_once(forge: Forge) -> None:
    owner = forge.contributor("somebody")
    slmcompile(owner, "promote", "tiny", "v1.0.0", "--to", "production")
    # v1.1.0 was made before that, so the owner has passed it over.
    forge.job("ci", "promote", at="origin/side")
    assert "tiny#production#2" not in forge.tags()
    another = replace(stated(forge), approver="dora")
    at = side(forge, "tiny", another)
    forge.job("ci", "promote", at=at)
    assert "tiny#production#2" in forge.tags()
    command(forge.origin, "git", "tag", "-d", "tiny#production#2")  # as if it was killed before
    done = forge.job("ci", "promote", at=at)
    assert "tiny@v1.2.0 is production" in done.stdout
    slmcompile(owner, "rollback", "tiny")
    before = forge.tags()
    forge.job("ci", "promote", at=at)
    assert forge.tags() == before


def test_rows_that_an_earlier_training_saw_are_trained_on(forge: Forge) -> None:
    """Case trained-on-the-test, by a recipe that the changed one goes on from."""
    clone = forge.contributor("earlier")
    text = (clone / "recipes/tiny.yaml").read_text(encoding="utf-8")
    before = f"{text.split('gates:')[0]}data:\n  seed: 5\n"
    after = text.replace("train:\n", "train:\n  continue_from: before\n")
    forge.edit(clone, "goes on", before=before, tiny=after)
    forge.open(2, clone, fork=True)
    forge.plan(2)
    said = forge.approve(2)
    told = forge.train(said, code=65)
    result = forge.push(said, told, code=65)
    assert "test rows are trained on" in result
    assert "<code>before</code>: done, every bar met." in result


def test_nothing_is_trained_where_a_recipe_is_only_removed(forge: Forge) -> None:
    clone = forge.contributor("removed")
    (clone / "recipes/tiny.yaml").unlink()
    commit(clone, "no recipe")
    forge.open(3, clone, fork=True)
    assert "/train" not in forge.plan(3)
    digest = propose(Project(clone), resolve(clone, "HEAD"), resolve(clone, "origin/main")).digest
    said = forge.approve(3, digest=digest)
    forge.job("ci", "train", event=forge.comment_event(said), code=64)


def test_the_result_of_a_fork_that_is_no_more_starts_nothing(forge: Forge) -> None:
    """Case fork-result."""
    assert forge.fake.pulls[1].repository is None
    refs = command(forge.origin, "git", "for-each-ref", "--format=%(refname)", "refs/heads").stdout
    assert {*refs.split()} == {"refs/heads/main", "refs/heads/side"}
    assert forge.result_ref(1).startswith("refs/slmcompile/pr/1/")
