"""A host that is slow, full, wrong or not to be had: what is tried again, and what is told."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from slmcompile.ci import transport
from slmcompile.ci.connect import connect
from slmcompile.ci.github import GitHub
from slmcompile.ci.host import UnsureError
from slmcompile.console.errors import Exit, MissingError, RefusedError, SlmcompileError
from tests.fake_github import BOT, FORK, TOKEN, FakeGitHub, Fault, serving
from tests.github_host import HEAD, MARKER, code_of, fake, host, waited

__all__ = ["fake", "host", "waited"]


@pytest.mark.parametrize("status", [500, 502, 503, 202, 0])
def test_reading_is_tried_again(
    fake: FakeGitHub, host: GitHub, waited: list[float], status: int
) -> None:
    fake.pull(7, HEAD)
    fake.faults.append(Fault("GET .*", status=status, times=2))
    assert host.pull_request(7)
    assert waited == [1.0, 2.0]
    assert len(fake.log) == 3


def test_it_gives_up_in_the_end(fake: FakeGitHub, host: GitHub, waited: list[float]) -> None:
    fake.faults.append(Fault("GET .*", status=500, times=99))
    assert code_of(lambda: host.pull_request(7)) == 69
    assert len(fake.log) == len(waited) + 1 == 6


def test_nobody_there_is_missing(fake: FakeGitHub, waited: list[float]) -> None:
    with serving() as other:
        gone = other.api
    assert code_of(lambda: GitHub(gone, fake.name, TOKEN).default_branch) == 69


LIMITS = {
    "retry-after": ({"Retry-After": "30"}, {"message": "slow down"}, 30.0),
    "primary": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1041"}, {}, 42.0),
    "reset is over": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, {}, 1.0),
    "no reset": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, {}, 60.0),
    "secondary": ({}, {"message": "You have exceeded a secondary rate limit."}, 60.0),
    "a date": ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, 60.0),
}


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_rate_limit_is_waited_for(
    fake: FakeGitHub, host: GitHub, waited: list[float], limit: str, status: int
) -> None:
    headers, body, seconds = LIMITS[limit]
    fake.pull(7, HEAD)
    fake.faults.append(Fault("GET .*", status=status, headers=headers, body=body))
    assert host.pull_request(7)
    assert waited == [seconds]


@pytest.mark.parametrize("after", ["601", "86400", "9" * 400])
def test_patience_has_an_end(
    fake: FakeGitHub, host: GitHub, waited: list[float], after: str
) -> None:
    fake.faults.append(Fault("GET .*", status=429, headers={"Retry-After": after}, times=99))
    assert code_of(lambda: host.pull_request(7)) == 69
    assert waited == []


def test_what_a_rate_limit_kept_out_is_written_once(fake: FakeGitHub, host: GitHub) -> None:
    fake.faults.append(Fault("POST .*", status=403, headers={"Retry-After": "5"}))
    host.create_comment(7, "hello")
    assert fake.thread(7) == ["hello"]


@pytest.mark.parametrize("status", [500, 502, 0])
def test_nothing_is_written_twice_unseen(
    fake: FakeGitHub, host: GitHub, waited: list[float], status: int
) -> None:
    fake.faults.append(Fault("POST .*/comments", status=status, taken=True, times=99))
    with pytest.raises(UnsureError):
        host.create_comment(7, "hello")
    assert fake.thread(7) == ["hello"]
    assert waited == []


def test_an_edit_is_the_same_twice(fake: FakeGitHub, host: GitHub) -> None:
    said = fake.say(7, BOT, "old")
    fake.faults.append(Fault("PATCH .*", status=502, taken=True))
    host.edit_comment(said.number, "new")
    assert [each.body for each in fake.comments.values()] == ["new"]


# Answers that are none.


def test_a_token_that_may_not_is_refused(fake: FakeGitHub, host: GitHub) -> None:
    body = {"message": f"Resource not accessible by integration {TOKEN}"}
    fake.faults.append(Fault("GET .*", status=403, body=body))
    assert code_of(lambda: host.pull_request(7)) == 77
    assert len(fake.log) == 1
    other = GitHub(fake.api, fake.name, "another")
    assert code_of(lambda: other.pull_request(7)) == 77
    assert code_of(lambda: other.create_comment(7, "x")) == 77


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "a\r\nX: y", "ü", "x" * 1001])
def test_what_is_no_token_goes_nowhere(fake: FakeGitHub, token: str) -> None:
    with pytest.raises(MissingError) as caught:
        GitHub(fake.api, fake.name, token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("api", ["http://api.github.example", "api.github.com", "file:///x", ""])
def test_a_token_goes_over_https_alone(api: str) -> None:
    with pytest.raises(RefusedError):
        GitHub(api, FakeGitHub.name, TOKEN)


@pytest.mark.parametrize("name", ["", "owner", "owner/a/b", "../x", "owner/../x", "o/n?x"])
def test_a_repository_has_an_owner_and_a_name(fake: FakeGitHub, name: str) -> None:
    with pytest.raises(SlmcompileError):
        GitHub(fake.api, name, TOKEN)


QUESTIONS: dict[str, Callable[[GitHub], Any]] = {
    "default branch": lambda host: host.default_branch,
    "pull request": lambda host: host.pull_request(7),
    "open": lambda host: host.open_pull_request(FORK, "mine", HEAD),
    "merged": lambda host: host.merged_pull_request(HEAD),
    "comment": lambda host: host.comment(7),
    "writer": lambda host: host.writer("ann"),
    "artifact": lambda host: host.artifact(5, "proposal", 100),
    "comments": lambda host: host.our_comments(7, MARKER),
    "issues": lambda host: host.our_issues(MARKER),
}
NONSENSE = {
    "not JSON": b"<html>",
    "empty": b"",
    "a number": 5,
    "a text": "x",
    "null": None,
    "a list of numbers": [1, 2],
    "a list of lists": [[]],
    "an object": {"x": 1},
    "wrong types": {
        "number": "7", "state": 1, "head": [], "base": {"ref": {}}, "body": 5, "user": "ann",
        "permission": ["admin"], "id": None, "default_branch": 3, "artifacts": 7, "data": [],
    },
    "deep": b"[" * 100_000,
    "too much": b'"' + b"x" * transport.LARGEST_ANSWER,
}  # fmt: skip


@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_that_is_none_is_an_error_of_ours(
    fake: FakeGitHub, host: GitHub, question: str, answer: str
) -> None:
    """Or says nothing: an empty list of pull requests, say."""
    fake.faults.append(Fault(".*", status=200, body=NONSENSE[answer], times=99))
    try:
        found = QUESTIONS[question](host)
    except SlmcompileError as error:
        assert error.code in {Exit.MISSING, Exit.CORRUPT}  # noqa: PT017 (some of them say nothing)
    else:
        assert found in (None, [])


@pytest.mark.parametrize("missing", ["number", "state", "head", "base"])
@pytest.mark.parametrize("instead", [None, [], 5.5])
def test_a_pull_request_that_lacks_something_is_none(
    fake: FakeGitHub, host: GitHub, missing: str, instead: Any
) -> None:
    body = fake.pull_json(fake.pull(7, HEAD)) | {missing: instead}
    fake.faults.append(Fault(".*", status=200, body=body))
    assert code_of(lambda: host.pull_request(7)) == 74


def test_a_comment_without_an_author_has_none(fake: FakeGitHub, host: GitHub) -> None:
    body = fake.comment_json(fake.say(7, "ann", "hello"))
    for changed in ({"user": None}, {"created_at": "today"}, {"updated_at": None}, {"body": 1}):
        fake.faults.append(Fault(".*", status=200, body=body | changed))
        assert code_of(lambda: host.comment(7)) == 74


@pytest.mark.parametrize("user", [{}, {"id": "700"}, {"id": True}, None])
def test_a_permission_has_to_say_whose_it_is(fake: FakeGitHub, host: GitHub, user: Any) -> None:
    body = {"permission": "admin", "user": user}
    fake.faults.append(Fault(".*", status=200, body=body))
    assert code_of(lambda: host.writer("ann")) == 74


@pytest.mark.parametrize(
    "link", ["nonsense", '<http://elsewhere.example/x>; rel="next"', '<file:///x>; rel="next"']
)
def test_a_next_page_elsewhere_is_not_asked(fake: FakeGitHub, host: GitHub, link: str) -> None:
    fake.say(7, "ann", "hello")
    body = [fake.comment_json(each) for each in fake.comments.values()]
    fake.faults.append(
        Fault("GET .*/comments", status=200, headers={"Link": link}, body=body, times=99)
    )
    assert code_of(lambda: host.our_comments(7, MARKER)) == 74


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_host_that_has_moved_is_not_followed(fake: FakeGitHub, host: GitHub, status: int) -> None:
    there = {"Location": f"{fake.api}/repos/other/place/pulls/7"}
    fake.faults.append(Fault(".*", status=status, headers=there, body=b"", times=99))
    assert code_of(lambda: host.pull_request(7)) == 69
    assert len(fake.log) == 1


def test_without_pygithub_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "github", None)
    monkeypatch.delitem(sys.modules, "slmcompile.ci.github")
    with pytest.raises(MissingError, match=re.escape("slmcompile[github]")):
        connect({})


def test_the_environment_names_the_host(fake: FakeGitHub) -> None:
    named = {"GITHUB_API_URL": fake.api, "GITHUB_REPOSITORY": fake.name, "GITHUB_TOKEN": TOKEN}
    assert connect(named).default_branch == "main"
    for missing in ("GITHUB_REPOSITORY", "GITHUB_TOKEN"):
        with pytest.raises(SlmcompileError):
            connect({**named, missing: ""})


def test_an_answer_with_an_end_far_away_is_told_as_that(fake: FakeGitHub, host: GitHub) -> None:
    body = b'{"default_branch": "main"}' + b" " * transport.LARGEST_ANSWER
    fake.faults.append(Fault(".*", status=200, body=body))
    with pytest.raises(SlmcompileError, match="more than"):
        _ = host.default_branch
