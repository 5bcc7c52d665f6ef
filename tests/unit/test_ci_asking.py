"""``ci authorise``: a comment, the host and git objects, and what the jobs behind are told."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from slmcompile.ci.approval import command as approve
from slmcompile.ci.comment import MARKER
from slmcompile.ci.outcome import MARKER as OF_RESULT
from slmcompile.ci.propose import propose
from slmcompile.cli.main import main
from slmcompile.files.revision import resolve
from slmcompile.recipe.project import Project
from tests.fake_github import BOT, FakeGitHub, Said, serving
from tests.projects import command, commit, make_repository, slmcompile
from tests.unit.test_revision import snapshot

PULL = "refs/pull/7/head"
RECIPE = "recipes/tiny.yaml"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, its origin, and a fork whose head origin has as pull request 7."""
    folder = tmp_path_factory.mktemp("template").resolve()
    here, origin, fork = (folder / name for name in ("here", "origin.git", "fork"))
    make_repository(here)
    slmcompile(here, "sync", "--all")
    commit(here, "generated")
    command(here, "git", "branch", "-M", "main")
    command(folder, "git", "clone", "-q", "--bare", str(here), str(origin))
    command(here, "git", "remote", "add", "origin", "../origin.git")
    command(folder, "git", "clone", "-q", str(origin), str(fork))
    faster(fork)
    commit(fork, "faster")
    command(fork, "git", "remote", "set-url", "origin", "../origin.git")
    command(fork, "git", "push", "-q", "origin", f"HEAD:{PULL}")
    return folder


def faster(root: Path, rate: float = 0.003) -> None:
    with (root / RECIPE).open("a", encoding="utf-8") as stream:
        stream.write(f"train: {{learning_rate: {rate}}}\n")


@dataclass
class Place:
    """What ``ci authorise`` works with."""

    fake: FakeGitHub
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def here(self) -> Path:
        return self.folder / "here"

    @property
    def fork(self) -> Path:
        return self.folder / "fork"

    def head(self) -> str:
        return command(self.fork, "git", "rev-parse", "HEAD").stdout.strip()

    def digest(self) -> str:
        """As the plan's job has it."""
        root = self.fork
        target = resolve(root, "origin/main")
        return propose(Project(root), resolve(root, "HEAD"), target).digest

    def push(self) -> None:
        """Whatever lies in the fork, as the contributor does."""
        commit(self.fork, "more")
        command(self.fork, "git", "push", "-q", "-f", "origin", f"HEAD:{PULL}")
        self.fake.pulls[7].head = self.head()

    def authorise(self, said: Said | dict[str, Any]) -> int:
        event = said if isinstance(said, dict) else self.fake.event_of_comment(said)
        named = self.fake.environment(self.folder, "issue_comment", event)
        for name, value in named.items():
            self.monkeypatch.setenv(name, value)
        Path(named["GITHUB_OUTPUT"]).unlink(missing_ok=True)
        self.monkeypatch.chdir(self.here)
        return main(["ci", "authorise"])

    def told(self) -> dict[str, str]:
        """The outputs; none of their lines is a command."""
        text = (self.folder / "output.txt").read_text(encoding="utf-8")
        lines = text.splitlines()
        assert all(re.fullmatch(r"[a-z]+=[^\x00-\x1f]*", line) for line in lines)
        assert not any(is_command(line.partition("=")[2]) for line in lines)
        return dict(line.split("=", 1) for line in lines)


def is_command(line: str) -> bool:
    """As GitHub's runner finds out."""
    return line.lstrip().startswith("::") or "##[" in line


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path.resolve() / "all"
    shutil.copytree(template, folder, symlinks=True)
    with serving() as fake:
        place = Place(fake, folder, monkeypatch)
        fake.pull(7, place.head())
        yield place


def test_who_may_write_has_the_head_trained(place: Place) -> None:
    digest = place.digest()
    before = snapshot(place.here / "recipes")
    assert place.authorise(place.fake.say(7, "ann", approve(digest))) == 0
    assert place.told() == {
        "asked": "true", "number": "7", "head": place.head(), "digest": digest,
    }  # fmt: skip
    # The head came as objects: no file or ref of it is here, and nothing was said.
    assert snapshot(place.here / "recipes") == before
    refs = command(place.here, "git", "for-each-ref", "--format=%(refname)").stdout.split()
    assert refs == ["refs/heads/main"]
    assert place.fake.asked(writing=True) == []


def test_plan_workflow_edited(place: Place) -> None:
    """Row 1: the plan's job uploads what it likes; whoever approves of that approves of nothing."""
    root = place.fork
    found = propose(Project(root), resolve(root, "HEAD"), resolve(root, "origin/main"))
    for shown in (
        replace(found, recipes=()),
        replace(found, tool="9.9"),
        replace(found, refused=()),
    ):
        if shown.digest != found.digest:
            assert place.authorise(place.fake.say(7, "ann", approve(shown.digest))) == 4
            assert place.told()["asked"] == "false"
    assert replace(found, recipes=()).digest != found.digest


@pytest.mark.parametrize(
    "text", ["hello", "/train", "/train 123", "> {}", "{} please", "```\n{}\n```"]
)
def test_what_asks_for_nothing_asks_nobody(place: Place, text: str) -> None:
    said = place.fake.say(7, "ann", text.format(approve("a" * 64)))
    assert place.authorise(said) == 0
    assert place.told() == {"asked": "false"}
    assert place.fake.log == []


def refused(place: Place, said: Said | dict[str, Any], code: int) -> str:
    assert place.authorise(said) == code
    told = place.told()
    assert (told["asked"], told["number"]) == ("false", "7")
    assert told.keys() == {"asked", "number", "refused"}
    return told["refused"]


@pytest.mark.parametrize("role", [("read", "triage"), ("read", "read"), ("none", "")])
def test_comment_by_a_stranger(place: Place, role: tuple[str, str]) -> None:
    """Row 23: a contributor, a member and the triage role approve of nothing."""
    place.fake.permissions["bob"] = role
    said = place.fake.say(7, "bob", approve(place.digest()))
    assert "bob" in refused(place, said, 77)


def test_whoever_asks_is_answered_and_no_result_is_written_over(place: Place) -> None:
    """Anybody can be refused: what came of a training stays as it was said."""
    result = place.fake.say(7, BOT, f"{OF_RESULT}\n\nwhat came out")
    digest = place.digest()
    why = refused(place, place.fake.say(7, "bob", approve(digest)), 77)
    place.monkeypatch.setenv("SLMCOMPILE_REFUSED", why)
    assert main(["ci", "answer"]) == 0
    answer = place.fake.thread(7)[-1]
    assert "Not trained" in answer
    assert "ask somebody who may to approve" in answer
    assert place.authorise(place.fake.say(7, "ann", approve(digest))) == 0
    place.monkeypatch.setenv("SLMCOMPILE_REFUSED", "")
    assert main(["ci", "answer"]) == 0
    answers = [each for each in place.fake.thread(7) if "slmcompile answer" in each]
    assert len(answers) == 1
    assert "Approved by <code>ann</code>" in answers[0]
    assert "(https://github.example/owner/here/actions/runs/1)" in answers[0]
    assert place.fake.comments[result.number].body == result.body


@pytest.mark.parametrize("role", [("write", "write"), ("write", "maintain"), ("admin", "admin")])
def test_comment_by_a_stranger_who_may_write(place: Place, role: tuple[str, str]) -> None:
    """Row 23: who maintains may, though GitHub has no such permission."""
    place.fake.permissions["bob"] = role
    said = place.fake.say(7, "bob", approve(place.digest()))
    assert place.authorise(said) == 0


def test_comment_by_a_stranger_who_took_a_name(place: Place) -> None:
    """Row 23: the name that wrote it is another user's by now, and that one may write."""
    said = place.fake.say(7, "ann", approve(place.digest()))
    event = place.fake.event_of_comment(said)
    place.fake.users |= {"ann": 799, "renamed": 700}
    said.author = "renamed"
    refused(place, event, 77)


def test_comment_by_a_stranger_of_ours(place: Place) -> None:
    """Row 28: our own comment, or an app's, approves of nothing."""
    place.fake.permissions[BOT] = ("write", "write")
    assert place.authorise(place.fake.say(7, BOT, approve(place.digest()))) == 0
    assert place.told() == {"asked": "false"}


def test_push_after_approval(place: Place) -> None:
    """Row 24: what was read is not what is there."""
    digest = place.digest()
    said = place.fake.say(7, "ann", approve(digest))
    faster(place.fork, 0.5)
    place.push()
    assert digest[:12] in refused(place, said, 4)


def test_push_after_approval_during_the_question(place: Place) -> None:
    """Row 24: the host has told a head that origin has lost by now."""
    said = place.fake.say(7, "ann", approve(place.digest()))
    told = place.head()
    command(place.fork, "git", "reset", "-q", "--hard", "origin/main")
    faster(place.fork, 0.5)
    place.push()
    place.fake.pulls[7].head = told
    refused(place, said, 4)


def test_comment_of_ours_edited(place: Place) -> None:
    """Row 22: an insider writes another digest into our comment, and an approver repeats it."""
    other = "f" * 64
    ours = place.fake.say(7, BOT, f"{MARKER}\n{approve(place.digest())}")
    place.fake.edit(ours.number, f"{MARKER}\n{approve(other)}")
    refused(place, place.fake.say(7, "ann", approve(other)), 4)


def test_comment_edited(place: Place) -> None:
    """Row 25: a comment of an approver that an insider makes an approval of is none."""
    said = place.fake.say(7, "ann", "nice")
    place.fake.edit(said.number, approve(place.digest()))
    event = place.fake.event_of_comment(said)
    assert place.authorise(event | {"action": "edited"}) == 0
    assert place.told() == {"asked": "false"}
    # As a workflow would have it that also runs on edits, and says nothing of that.
    refused(place, event, 77)


def test_comment_edited_since(place: Place) -> None:
    """Row 25: what it says is read again, and by whom."""
    digest = place.digest()
    said = place.fake.say(7, "ann", approve(digest))
    event = place.fake.event_of_comment(said)
    place.fake.edit(said.number, approve("f" * 64))
    refused(place, event, 77)
    del place.fake.comments[said.number]
    refused(place, event, 77)


@pytest.mark.parametrize("change", [{"state": "closed"}, {"target": "release"}])
def test_only_what_is_open_and_goes_to_the_target(place: Place, change: dict[str, str]) -> None:
    said = place.fake.say(7, "ann", approve(place.digest()))
    for key, value in change.items():
        setattr(place.fake.pulls[7], key, value)
    refused(place, said, 64)


def test_a_digest_does_not_go_by_what_a_commit_is_called(place: Place) -> None:
    """A problem that names the commit must not have another digest in another job."""
    data = "data/tiny/commands.jsonl"
    with (place.fork / data).open("a", encoding="utf-8") as stream:
        stream.write("\n")
    place.push()
    blob = command(place.fork, "git", "rev-parse", f"HEAD:{data}").stdout.strip()
    (place.fork / ".git/objects" / blob[:2] / blob[2:]).unlink()
    root, target = place.fork, resolve(place.fork, "origin/main")
    project = Project(root)
    by_name, by_hash = (
        propose(project, resolve(root, name), target) for name in ("HEAD", place.head())
    )
    assert "blob is missing" in by_name.problems[0].what
    assert by_name.digest == by_hash.digest


def test_what_may_not_be_trained_is_refused_with_its_reason(place: Place) -> None:
    path = place.fork / ".github/workflows/x.yml"
    path.parent.mkdir(parents=True)
    path.write_text("on: push\n")
    place.push()
    said = place.fake.say(7, "ann", approve(place.digest()))
    assert "changes beside recipes" in refused(place, said, 77)


def test_a_host_that_is_not_to_be_had_is_told(place: Place) -> None:
    said = place.fake.say(7, "ann", approve(place.digest()))
    event = place.fake.event_of_comment(said)
    place.fake.tokens.clear()
    refused(place, event, 77)
    assert place.authorise({"action": "created", "issue": {}, "comment": {}}) == 0
    event["issue"]["number"] = "x"
    assert place.authorise(event) == 74


HOSTILE = ("::add-mask::a", "##[add-mask]a", " ::stop-commands::x", "a ##[group]b")


@pytest.mark.parametrize("text", HOSTILE)
def test_log_commands(place: Place, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Row 8: nothing that a stranger names is a command to the runner, wherever it is printed."""
    faster(place.fork)
    path = place.fork / text / ".github" / "x.yml"
    path.parent.mkdir(parents=True)
    path.write_text("on: push\n")
    (place.fork / "recipes/other.yaml").write_text(f"{json.dumps(text)}: 1\n", encoding="utf-8")
    place.push()
    place.monkeypatch.chdir(place.fork)
    assert main(["ci", "plan", "--against", "origin/main"]) in {77, 78}
    shown = capfd.readouterr()
    assert text.strip() in json.loads(shown.out)["refused"][0]["what"]
    assert main(["ci", "plan", "--against", "origin/main", "--out", "x.json"]) in {77, 78}
    assert main(["ci", "comment", "x.json"]) == 0
    event = place.fake.event_of_comment(place.fake.say(7, "ann", approve(place.digest())))
    event["comment"]["user"]["login"] = text
    refused(place, event, 77)
    event["comment"]["user"]["login"] = "ann"
    refused(place, event, 77)
    more = capfd.readouterr()
    lines = f"{shown.out}\n{shown.err}\n{more.out}\n{more.err}".splitlines()
    assert len(lines) > 20
    assert [line for line in lines if is_command(line)] == []
