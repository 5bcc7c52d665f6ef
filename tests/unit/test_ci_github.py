"""What GitHub is asked, in which words and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile.ci.github import GitHub
from slmcompile.ci.host import Comment, PullRequest
from slmcompile.console.errors import MissingError
from tests.fake_github import BOT, FORK, OWN, TOKEN, FakeGitHub, Fault
from tests.github_host import HEAD, MARKER, code_of, fake, host, waited

__all__ = ["fake", "host", "waited"]

OTHER = "2" * 40
REPOSITORY = f"/repos/{FakeGitHub.name}"


def test_a_pull_request_of_a_fork_and_one_of_a_branch(fake: FakeGitHub, host: GitHub) -> None:
    fake.pull(7, HEAD)
    fake.pull(8, OTHER, repository=OWN, branch="ours", target="release", state="closed")
    assert host.pull_request(7) == PullRequest(7, True, HEAD, "main", FORK, "mine", True)
    assert host.pull_request(8) == PullRequest(8, False, OTHER, "release", OWN, "ours", False)
    assert host.pull_request(9) is None
    assert host.default_branch == "main"
    assert fake.asked() == [
        f"GET {REPOSITORY}/pulls/7",
        f"GET {REPOSITORY}/pulls/8",
        f"GET {REPOSITORY}/pulls/9",
        f"GET {REPOSITORY}",
    ]
    assert {each.token for each in fake.log} == {TOKEN}


def test_a_fork_that_is_no_more_is_no_branch_of_ours(fake: FakeGitHub, host: GitHub) -> None:
    fake.pull(7, HEAD, repository=None)
    found = host.pull_request(7)
    assert found
    assert (found.repository, found.from_fork) == (None, True)


def test_the_open_one_is_found_by_all_that_names_it(fake: FakeGitHub, host: GitHub) -> None:
    fake.pull(7, HEAD)
    fake.pull(6, HEAD, repository=3000)  # a second fork with the same commit
    fake.pull(5, HEAD, branch="other")
    fake.pull(4, HEAD, target="release")
    fake.pull(3, HEAD, state="closed")
    fake.pull(2, OTHER)
    fake.page = 1
    found = host.open_pull_request(FORK, "mine", HEAD)
    assert found
    assert found.number == 7
    assert fake.log[1].query == {
        "state": "open", "base": "main", "sort": "updated", "direction": "desc", "per_page": "100",
    }  # fmt: skip
    for other in ((OWN, "mine", HEAD), (FORK, "main", HEAD), (FORK, "mine", "3" * 40)):
        assert host.open_pull_request(*other) is None


def test_a_commit_has_the_pull_request_whose_merge_made_it(fake: FakeGitHub, host: GitHub) -> None:
    fake.pull(7, HEAD, state="closed", merged_as=OTHER)
    fake.pull(8, OTHER)  # proposes it elsewhere
    fake.pull(9, HEAD, state="closed", merged_as=OTHER, target="release")
    found = host.merged_pull_request(OTHER)
    assert found
    assert found.number == 7
    assert fake.asked()[-1] == f"GET {REPOSITORY}/commits/{OTHER}/pulls"
    assert host.merged_pull_request(HEAD) is None


def test_a_comment_tells_whether_it_was_edited(fake: FakeGitHub, host: GitHub) -> None:
    said = fake.say(7, "ann", "hello")
    assert host.comment(said.number) == Comment("hello", 700, edited=False)
    fake.edit(said.number, "hello!")
    assert host.comment(said.number) == Comment("hello!", 700, edited=True)
    assert host.comment(1) is None
    assert fake.asked()[0] == f"GET {REPOSITORY}/issues/comments/{said.number}"


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (("admin", "admin"), True),
        (("write", "maintain"), True),
        (("write", "write"), True),
        (("read", "triage"), False),
        (("read", "read"), False),
        (("none", ""), False),
    ],
)
def test_who_may_write(fake: FakeGitHub, host: GitHub, role: tuple[str, str], may: bool) -> None:
    fake.permissions["ann"] = role
    assert host.writer("ann") == (700 if may else None)
    assert fake.asked() == [f"GET {REPOSITORY}/collaborators/ann/permission"]


def test_a_name_is_no_path(fake: FakeGitHub, host: GitHub) -> None:
    assert host.writer("nobody") is None
    assert host.writer("../../../users/ann?x=") is None
    assert fake.asked()[-1].startswith(f"GET {REPOSITORY}/collaborators/..%2F..%2F..%2Fusers%2Fann")


def test_ours_is_what_the_tokens_user_wrote(fake: FakeGitHub, host: GitHub) -> None:
    fake.page = 2
    fake.say(7, "ann", f"{MARKER}\nof another")
    fake.say(7, BOT, f"> {MARKER}")
    first = fake.say(7, BOT, f"{MARKER}\nof ours")
    fake.say(8, BOT, f"{MARKER}\nelsewhere")
    second = fake.say(7, BOT, f"{MARKER}\nagain")
    assert host.our_comments(7, MARKER) == [first.number, second.number]
    pages = [each for each in fake.log if each.path.endswith("/issues/7/comments")]
    assert [each.query.get("page") for each in pages] == [None, "2"]
    host.edit_comment(first.number, "new")
    assert fake.comments[first.number].body == "new"
    host.create_comment(7, "more")
    assert fake.thread(7)[-1] == "more"
    assert fake.asked(writing=True) == [
        f"PATCH {REPOSITORY}/issues/comments/{first.number}",
        f"POST {REPOSITORY}/issues/7/comments",
    ]
    assert fake.log[-1].body == {"body": "more"}


def test_issues_of_ours(fake: FakeGitHub, host: GitHub) -> None:
    fake.issue("ann", f"{MARKER}\nof another")
    assert host.our_issues(MARKER) == []
    host.create_issue("title", f"{MARKER}\nof ours")
    (number,) = host.our_issues(MARKER)
    host.edit_issue(number, f"{MARKER}\nnew")
    assert (fake.issues[number].body, fake.issues[number].state) == (f"{MARKER}\nnew", "open")
    host.edit_issue(number, f"{MARKER}\nend", close=True)
    assert host.our_issues(MARKER) == []
    assert fake.issues[number].state == "closed"
    assert fake.asked(writing=True) == [
        f"POST {REPOSITORY}/issues",
        f"PATCH {REPOSITORY}/issues/{number}",
        f"PATCH {REPOSITORY}/issues/{number}",
    ]


def test_an_artifact_comes_from_its_store_without_the_token(fake: FakeGitHub, host: GitHub) -> None:
    fake.upload(5, b"bytes")
    fake.upload(5, b"others", name="log")
    fake.upload(6, b"of another run")
    assert host.artifact(5, "proposal", 100) == b"bytes"
    assert [each.token for each in fake.log if each.host == "store"] == [""]
    assert {each.token for each in fake.log if each.host == "api"} == {TOKEN}
    assert host.artifact(7, "proposal", 100) is None


def test_a_netrc_does_not_lend_the_store_a_password(
    fake: FakeGitHub, host: GitHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fake.upload(5, b"bytes")
    host.artifact(5, "proposal", 100)
    assert [each.token for each in fake.log if each.host == "store"] == [""]


def test_an_expired_artifact_is_none(fake: FakeGitHub, host: GitHub) -> None:
    fake.upload(5, b"bytes", expired=True)
    assert host.artifact(5, "proposal", 100) is None


def test_two_of_one_name_or_one_that_is_too_large_is_refused(
    fake: FakeGitHub, host: GitHub
) -> None:
    fake.upload(5, b"bytes")
    fake.upload(5, b"bytes")
    assert code_of(lambda: host.artifact(5, "proposal", 100)) == 74
    fake.upload(6, b"x" * 101)
    assert code_of(lambda: host.artifact(6, "proposal", 100)) == 74
    assert not [each for each in fake.log if each.host == "store"]


def test_a_store_that_gives_more_than_was_told_is_cut_off(fake: FakeGitHub, host: GitHub) -> None:
    fake.upload(5, b"x")
    endless = {"Content-Length": str(1 << 40)}
    fake.faults.append(Fault("GET /3.*", status=200, headers=endless, body=b"x" * (1 << 20)))
    assert code_of(lambda: host.artifact(5, "proposal", 100)) == 74


@pytest.mark.parametrize("where", ["http://store.example/x", "ftp://localhost/x", "/x", ""])
def test_a_store_is_asked_over_https_alone(fake: FakeGitHub, host: GitHub, where: str) -> None:
    fake.upload(5, b"x")
    fake.faults.append(Fault("GET .*/zip", status=302, headers={"Location": where}))
    assert code_of(lambda: host.artifact(5, "proposal", 100)) == 77


def test_a_failing_store_is_told_without_its_signed_address(fake: FakeGitHub, host: GitHub) -> None:
    fake.upload(5, b"x")
    fake.faults.append(Fault("GET /3.*", status=403))
    with pytest.raises(MissingError) as caught:
        host.artifact(5, "proposal", 100)
    assert "signature" not in str(caught.value)
    fake.faults.append(Fault("GET /3.*", status=0, times=99))
    with pytest.raises(MissingError) as caught:
        host.artifact(5, "proposal", 100)
    assert "signature" not in str(caught.value)
