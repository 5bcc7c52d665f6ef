"""What is said in the thread of a pull request, and in whose: rows of docs/pull-requests.md."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmcompile.ci.comment import MARKER, comment
from slmcompile.ci.drift_issue import MARKER as DRIFT
from slmcompile.ci.drift_issue import issue, settle
from slmcompile.ci.github import GitHub
from slmcompile.ci.host import UnsureError
from slmcompile.ci.posting import say
from slmcompile.ci.proposal import Problem, Proposal, to_json
from slmcompile.cli.main import main
from slmcompile.drift.finding import Finding
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.recipe.project import Project
from tests.fake_github import BOT, OWN, FakeGitHub, Fault
from tests.github_host import HEAD, fake, host, waited
from tests.projects import make_repository
from tests.unit.test_ci_comment import HOSTILE, proposal, rendered

__all__ = ["fake", "host", "waited"]

RUN = 50
Post = Callable[..., int]


def zipped(document: Any, name: str = "proposal.json") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, json.dumps(document))
    return target.getvalue()


def archive(found: Proposal) -> bytes:
    return zipped(to_json(found))


@pytest.fixture
def post(fake: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    """Posts the plan of a run, as the job does."""
    monkeypatch.chdir(tmp_path)

    def posting(pull: int = 7, *words: str, **event: Any) -> int:
        told = fake.event_of_run(RUN, fake.pulls[pull], **event)
        for name, value in fake.environment(tmp_path, "workflow_run", told).items():
            monkeypatch.setenv(name, value)
        return main(["ci", "comment", "--post", *words])

    return posting


def test_a_plan_is_said_once_and_edited(fake: FakeGitHub, post: Post) -> None:
    fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal()))
    assert post() == 0
    assert fake.thread(7) == [comment(proposal())]
    fake.runs[RUN].clear()
    fake.upload(RUN, archive(proposal(unchanged=5)))
    assert post() == 0
    assert fake.thread(7) == [comment(proposal(unchanged=5))]


def test_an_archive_that_is_here_is_not_asked_for(
    fake: FakeGitHub, post: Post, tmp_path: Path
) -> None:
    fake.pull(7, HEAD)
    (tmp_path / "x.zip").write_bytes(archive(proposal()))
    assert post(7, "x.zip") == 0
    assert fake.thread(7) == [comment(proposal())]
    assert not [each for each in fake.asked() if "artifacts" in each]
    assert post(7, "x.json") == 64
    assert post(7, "none.zip") == 64


@pytest.mark.parametrize(
    "event",
    [
        {"event": "push"},
        {"event": "push", "head_branch": "main", "head_repository": {"id": OWN}},
        {"event": "workflow_dispatch"},
        {"event": "pull_request_target"},
        {"event": "merge_group"},
        {"conclusion": "cancelled"},
        {"conclusion": "action_required"},
        {"conclusion": None},
        {"head_repository": None},
        {"head_branch": None},
    ],
)
def test_run_of_another_event(fake: FakeGitHub, post: Post, event: dict[str, Any]) -> None:
    """Row 11: whoever names a workflow or a branch as ours has nothing said."""
    fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal()))
    assert post(**event) == 0
    assert fake.log == []


def test_run_of_another_event_name_of_branch(fake: FakeGitHub, post: Post) -> None:
    """Row 11: a fork's branch that is called as the target is a fork's branch."""
    fake.pull(7, HEAD, branch="main")
    fake.upload(RUN, archive(proposal()))
    assert post() == 0
    assert fake.thread(7) == [comment(proposal())]


def test_run_of_another_event_that_failed(fake: FakeGitHub, post: Post) -> None:
    """Row 11: a run that failed is said to have, or says why; it offers nothing to approve."""
    fake.pull(7, HEAD)
    assert post(conclusion="failure") == 0
    (said,) = fake.thread(7)
    assert said.startswith(f"{MARKER}\n")
    assert "could not be planned" in said
    assert f"https://github.example/{fake.name}/actions/runs/{RUN}" in said
    fake.upload(RUN, archive(proposal()))
    assert post(conclusion="failure") == 0
    assert fake.thread(7) == [said]
    fake.runs[RUN].clear()
    refused = proposal(refused=(Problem("x", "y", 77),))
    fake.upload(RUN, archive(refused))
    assert post(conclusion="failure") == 0
    assert fake.thread(7) == [comment(refused)]
    assert "/train" not in comment(refused)


def test_number_spoofed(fake: FakeGitHub, post: Post) -> None:
    """Row 17: nothing of what was uploaded says where it is shown."""
    fake.pull(7, HEAD)
    fake.pull(8, "8" * 40, branch="victim")
    named = {"number": 8, "pull_request": 8, "pr": 8, "branch": "victim"}
    fake.upload(RUN, zipped(to_json(proposal()) | named))
    assert post(pull_requests=[{"number": 8}], display_title="#8", head_commit={"id": "8"}) == 0
    assert fake.thread(8) == []
    assert fake.thread(7) == [comment(proposal())]


def test_number_spoofed_by_another_commit(fake: FakeGitHub, post: Post) -> None:
    """Row 17: a document of another commit is not shown as this one's."""
    fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal(head="8" * 40)))
    assert post() == 74
    (said,) = fake.thread(7)
    assert "another commit" in said
    assert "/train" not in said


def test_number_spoofed_by_a_target(fake: FakeGitHub, post: Post) -> None:
    """Row 17: only what goes to the default branch is commented."""
    fake.pull(7, HEAD, target="release")
    fake.upload(RUN, archive(proposal()))
    assert post() == 0
    assert fake.comments == {}


@pytest.mark.parametrize("other", [{"repository": 3000}, {"branch": "other"}])
def test_two_of_one_head(fake: FakeGitHub, post: Post, other: dict[str, Any]) -> None:
    """Row 18: another's pull request with the same commit has its own thread."""
    fake.pull(7, HEAD)
    fake.pull(8, HEAD, **other)
    fake.upload(RUN, archive(proposal()))
    for number, beside in ((7, 8), (8, 7)):  # whichever the host tells first
        fake.comments.clear()
        assert post(number) == 0
        assert fake.thread(beside) == []
        assert fake.thread(number) == [comment(proposal())]


def test_marker_squatted(fake: FakeGitHub, post: Post) -> None:
    """Row 19: what another wrote stays his, and is never edited into ours."""
    fake.pull(7, HEAD)
    squatted = fake.say(7, "bob", f"{MARKER}\nmine")
    quoted = fake.say(7, BOT, f"> {MARKER}")
    fake.upload(RUN, archive(proposal()))
    assert post() == 0
    assert fake.thread(7) == [squatted.body, quoted.body, comment(proposal())]
    assert squatted.body == f"{MARKER}\nmine"
    assert squatted.updated == squatted.created


def test_marker_squatted_several_of_ours(fake: FakeGitHub, post: Post) -> None:
    """Row 19: of several of ours the oldest is edited."""
    fake.pull(7, HEAD)
    for text in ("first", "second"):
        fake.say(7, BOT, f"{MARKER}\n{text}")
    fake.upload(RUN, archive(proposal()))
    assert post() == 0
    assert fake.thread(7) == [comment(proposal()), f"{MARKER}\nsecond"]


def test_older_run_last(fake: FakeGitHub, post: Post) -> None:
    """Row 20: a run of a commit that was pushed over writes nothing."""
    pull = fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal()))
    assert post() == 0
    said = fake.thread(7)
    pull.head = "9" * 40
    assert post(head_sha=HEAD) == 0
    assert fake.thread(7) == said
    assert len(fake.asked(writing=True)) == 1


@pytest.mark.parametrize("change", [{"head": "9" * 40}, {"state": "closed"}])
@pytest.mark.parametrize("before", [0, 1])
def test_older_run_last_pushed_meanwhile(
    fake: FakeGitHub, post: Post, change: dict[str, str], before: int
) -> None:
    """Row 20: the head is asked for after all else, directly before it is written."""
    pull = fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal()))
    for _ in range(before):
        fake.say(7, BOT, f"{MARKER}\nof the newer one")

    def push() -> None:
        for key, value in change.items():
            setattr(pull, key, value)

    fake.faults.append(Fault("GET .*/issues/7/comments", status=None, happens=push))
    assert post() == 0
    assert fake.asked(writing=True) == []


def test_what_the_host_took_before_it_failed_is_not_said_twice(
    fake: FakeGitHub, post: Post
) -> None:
    fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal()))
    for status in (502, 0):
        fake.faults.append(Fault("POST .*/comments", status=status, taken=True))
        assert post() == 0
        assert fake.thread(7) == [comment(proposal())]
        fake.comments.clear()
        fake.faults.clear()
    fake.faults.append(Fault("POST .*/comments", status=502))
    assert post() == 0
    assert fake.thread(7) == [comment(proposal())]
    fake.comments.clear()
    fake.faults.append(Fault("POST .*/comments", status=502, times=99))
    assert post() == 69
    assert fake.thread(7) == []


@pytest.mark.parametrize(
    "data",
    [b"no archive", zipped({}), zipped({}, name="../proposal.json"), zipped("x" * 5_000_000)],
)
def test_what_cannot_be_read_takes_the_place_of_the_plan_before(
    fake: FakeGitHub, post: Post, data: bytes
) -> None:
    fake.pull(7, HEAD)
    fake.say(7, BOT, f"{MARKER}\nof the commit before")
    fake.upload(RUN, data)
    assert post() == 74
    (said,) = fake.thread(7)
    assert "could not be planned" in said


def test_two_documents_are_none(fake: FakeGitHub, post: Post) -> None:
    fake.pull(7, HEAD)
    fake.upload(RUN, archive(proposal()))
    fake.upload(RUN, archive(proposal(unchanged=9)))
    assert post() == 74
    assert "could not be planned" in fake.thread(7)[0]


def test_something_else_is_said_in_a_comment_of_its_own(fake: FakeGitHub, host: GitHub) -> None:
    fake.pull(7, HEAD, state="closed")
    fake.say(7, BOT, f"{MARKER}\nplan")
    assert say(host, 7, "<!-- result -->\nfirst")
    assert say(host, 7, "<!-- result -->\nsecond")
    assert fake.thread(7) == [f"{MARKER}\nplan", "<!-- result -->\nsecond"]
    assert not say(host, 7, "<!-- result -->\nthird", frozenset({HEAD}))


@pytest.mark.parametrize(
    "event", [{}, {"workflow_run": None}, {"workflow_run": {"id": "5"}}, [], "x"]
)
def test_an_event_that_tells_of_no_run_is_damaged(
    fake: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in fake.environment(tmp_path, "workflow_run", event).items():
        monkeypatch.setenv(name, value)
    assert main(["ci", "comment", "--post"]) == 74
    monkeypatch.setenv("GITHUB_EVENT_NAME", "push")
    assert main(["ci", "comment", "--post"]) == 64


# Drift.

FOUND = (Finding("generated", "pipelines/x/dvc.yaml", "is another", "run sync"),)


def test_drift_has_one_issue(fake: FakeGitHub, host: GitHub) -> None:
    assert settle(host, ()) == "none"
    assert settle(host, FOUND) == "opened"
    assert settle(host, FOUND * 2) == "edited"
    (one,) = fake.issues.values()
    assert (one.author, one.state) == (BOT, "open")
    assert one.body.count("pipelines/x/dvc.yaml") == 2
    assert settle(host, ()) == "closed"
    assert one.state == "closed"
    assert settle(host, FOUND) == "opened"
    assert [each.state for each in fake.issues.values()] == ["closed", "open"]


def test_issue_squatted(fake: FakeGitHub, host: GitHub) -> None:
    """Row 70: an issue of another with our marker stays his."""
    his = fake.issue("bob", f"{DRIFT}\nmine")
    assert settle(host, FOUND) == "opened"
    assert settle(host, FOUND) == "edited"
    assert settle(host, ()) == "closed"
    assert (his.body, his.state) == (f"{DRIFT}\nmine", "open")
    assert len(fake.issues) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_issue_squatted_by_a_value(text: str) -> None:
    """Row 70: a value does nothing in the issue."""
    shown = issue([Finding("generated", text, text, text)])
    lines = shown.rstrip("\n").split("\n")
    assert len(lines) == 5
    assert lines[0] == DRIFT
    reader = rendered(shown)
    assert {tag for tag, _ in reader.tags} <= {"p", "ul", "li", "code"}
    outside = re.sub(r"<code>.*?</code>", "", lines[-1])
    assert re.fullmatch(r"- generated: : \. ", outside)
    assert not re.search(r"@\w|://|www\.", shown)


def test_an_issue_has_an_end() -> None:
    shown = issue([Finding("generated", "x" * 300, "y" * 300, "z")] * 1000)
    assert len(shown) < 65_536
    assert re.search(r"\d+ more do not fit", shown)


def test_an_issue_that_the_host_took_is_not_opened_twice(fake: FakeGitHub, host: GitHub) -> None:
    fake.faults.append(Fault("POST .*/issues", status=502, taken=True))
    assert settle(host, FOUND) == "edited"
    assert len(fake.issues) == 1
    fake.issues.clear()
    fake.faults.append(Fault("POST .*/issues", status=502, times=99))
    with pytest.raises(UnsureError):
        settle(host, FOUND)


def test_a_night(
    fake: FakeGitHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_repository(tmp_path.resolve() / "here")
    project = Project(root)
    sync(project, [compile_recipe(project, name, []) for name in project.names()])
    monkeypatch.chdir(root)
    for name, value in fake.environment(tmp_path, "schedule", {}).items():
        monkeypatch.setenv(name, value)
    assert main(["ci", "drift"]) == 0
    assert fake.issues == {}
    with (root / "pipelines/tiny/dvc.yaml").open("a") as stream:
        stream.write("# more\n")
    assert main(["ci", "drift"]) == 2
    (one,) = fake.issues.values()
    assert "pipelines/tiny/dvc.yaml" in one.body
    assert "pipelines/tiny/dvc.yaml" in capsys.readouterr().out
    sync(project, [compile_recipe(project, name, []) for name in project.names()])
    assert main(["ci", "drift"]) == 0
    assert one.state == "closed"
