"""Who approves, of what, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from slmcompile.ci.approval import command
from slmcompile.ci.authorise import Asked, asked, authorise, require_approved, require_still
from slmcompile.ci.host import Comment, PullRequest
from slmcompile.ci.proposal import Judged, Problem
from slmcompile.console.errors import SlmcompileError
from tests.unit.test_ci_comment import HEAD, proposal

DIGEST = proposal().digest
ASK = Asked(number=7, comment=70, author=700, login="ann", digest=DIGEST)


@dataclass
class Somewhere:
    """A host with one pull request, one comment and those who may write."""

    writers: dict[str, int] = field(default_factory=lambda: {"ann": 700})
    said: Comment | None = field(
        default_factory=lambda: Comment(command(DIGEST), author=700, edited=False)
    )
    request: PullRequest | None = field(
        default_factory=lambda: PullRequest(7, is_open=True, head=HEAD, target="main")
    )
    default_branch: str = "main"

    def pull_request(self, number: int) -> PullRequest | None:
        return self.request if number == ASK.number else None

    def comment(self, number: int) -> Comment | None:
        return self.said if number == ASK.comment else None

    def writer(self, login: str) -> int | None:
        return self.writers.get(login)


def event(**changed: Any) -> dict[str, Any]:
    user = {"id": 700, "login": "ann", "type": "User"}
    comment = {"id": 70, "body": command(DIGEST), "user": user}
    issue = {"number": 7, "pull_request": {"url": "x"}}
    return {"action": "created", "issue": issue, "comment": comment, **changed}


def test_a_comment_of_the_whole_command_asks() -> None:
    assert asked(event()) == ASK


@pytest.mark.parametrize(
    "changed",
    [
        {"action": "edited"},
        {"action": "deleted"},
        {"action": None},
        {"issue": {"number": 7}},
        {"issue": {"number": 7, "pull_request": None}},
        {"issue": None},
        {"comment": None},
        {"comment": event()["comment"] | {"body": f"> {command(DIGEST)}"}},
        {"comment": event()["comment"] | {"body": None}},
        {"comment": event()["comment"] | {"user": None}},
        {"comment": event()["comment"] | {"user": {"id": 1, "login": "x[bot]", "type": "Bot"}}},
    ],
)
def test_other_events_ask_for_nothing(changed: dict[str, Any]) -> None:
    assert asked(event(**changed)) is None


def test_who_may_write_approves_of_the_head_that_is_there() -> None:
    assert authorise(ASK, Somewhere()).head == HEAD


def withdrawn(host: Somewhere) -> None:
    host.writers = {}


def renamed(host: Somewhere) -> None:
    """The name belongs to another who may write."""
    host.writers = {"ann": 701}


def deleted(host: Somewhere) -> None:
    host.said = None


def edited(host: Somewhere) -> None:
    host.said = Comment(command(DIGEST), author=700, edited=True)


def rewritten(host: Somewhere) -> None:
    """As a host would have it that does not tell of edits."""
    host.said = Comment(command("f" * 64), author=700, edited=False)


def of_another(host: Somewhere) -> None:
    host.said = Comment(command(DIGEST), author=701, edited=False)


def closed(host: Somewhere) -> None:
    assert host.request
    host.request = replace(host.request, is_open=False)


def gone(host: Somewhere) -> None:
    host.request = None


def elsewhere(host: Somewhere) -> None:
    assert host.request
    host.request = replace(host.request, target="release")


REFUSED = {
    withdrawn: 77, renamed: 77, deleted: 77, edited: 77, rewritten: 77, of_another: 77,
    closed: 64, gone: 64, elsewhere: 64,
}  # fmt: skip


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_no_approval_by_now_is_refused_each_time(
    change: Callable[[Somewhere], None],
) -> None:
    host = Somewhere()
    require_still(ASK, host, frozenset({HEAD}))
    change(host)
    for question in (
        lambda: authorise(ASK, host),
        lambda: require_still(ASK, host, frozenset({HEAD})),
    ):
        with pytest.raises(SlmcompileError) as caught:
            question()
        assert caught.value.code == REFUSED[change]


def test_a_push_voids_and_the_result_of_the_training_does_not() -> None:
    host = Somewhere()
    assert host.request
    host.request = replace(host.request, head="9" * 40)
    require_still(ASK, host, frozenset({HEAD, "9" * 40}))
    with pytest.raises(SlmcompileError) as caught:
        require_still(ASK, host, frozenset({HEAD}))
    assert caught.value.code == 4


def test_what_is_proposed_now_must_be_what_was_approved() -> None:
    require_approved(ASK, proposal())
    with pytest.raises(SlmcompileError) as caught:
        require_approved(ASK, proposal(head="9" * 40))
    assert caught.value.code == 4
    with pytest.raises(SlmcompileError) as caught:
        require_approved(ASK, proposal(base="9" * 40))
    assert caught.value.code == 4


def test_what_the_checks_find_here_counts_whatever_the_plan_found() -> None:
    """They are in no digest: who trains judges by his own machine and the policy of now."""
    found = proposal(judged=(Judged("quickstart", "allowed", "no", "ask", 77),))
    with pytest.raises(SlmcompileError) as caught:
        require_approved(ASK, found)
    assert caught.value.code == 77
    refused = proposal(refused=(Problem("x: changes", "alone", 77),))
    with pytest.raises(SlmcompileError) as caught:
        require_approved(replace(ASK, digest=refused.digest), refused)
    assert caught.value.code == 77
