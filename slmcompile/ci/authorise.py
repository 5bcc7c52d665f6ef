"""Whether a comment is an approval, and whether it still is.

An approval is a comment as its author made it, by somebody who may write to the repository when he
is asked for, of the head that the pull request has when that is asked. Nothing is remembered: each
job asks anew before it starts, pushes or promotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmcompile.ci.approval import approved
from slmcompile.ci.host import Host, PullRequest
from slmcompile.ci.proposal import Proposal
from slmcompile.console.errors import (
    CorruptError,
    Exit,
    RefusedError,
    SlmcompileError,
    StaleError,
    UsageError,
)

_AGAIN = "read the plan and comment anew"


@dataclass(frozen=True)
class Asked:
    """A comment that asks for a training, as the event of its creation has it.

    Attributes:
        number: of the pull request.
        comment: its id.
        author: user id of its author.
        login: name of its author, which can become another's.
        digest: what it approves of.
    """

    number: int
    comment: int
    author: int
    login: str
    digest: str


def asked(event: Mapping[str, Any]) -> Asked | None:
    """What the event of a comment asks for; None where it asks for nothing.

    A comment that was edited asks for nothing, and neither does one of a program.

    Args:
        event: GitHub's ``issue_comment``.

    Raises:
        CorruptError: it is not as GitHub writes it (exit 74).
    """
    comment, issue = event.get("comment"), event.get("issue")
    if event.get("action") != "created" or not isinstance(comment, Mapping):
        return None
    if not isinstance(issue, Mapping) or not issue.get("pull_request"):
        return None
    digest, author = approved(str(comment.get("body", ""))), comment.get("user")
    if digest is None or not isinstance(author, Mapping) or author.get("type") != "User":
        return None
    try:
        return Asked(
            number=int(issue["number"]),
            comment=int(comment["id"]),
            author=int(author["id"]),
            login=str(author["login"]),
            digest=digest,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise CorruptError("the event of a comment lacks numbers", "call it in a job") from error


def authorise(ask: Asked, host: Host) -> PullRequest:
    """The pull request that a comment approves of, as far as the host can tell.

    Raises:
        RefusedError: its author may not write, or it is not as it was made (exit 77).
        UsageError: there is nothing to be trained there (exit 64).
    """
    if host.writer(ask.login) != ask.author:
        raise RefusedError(
            f"{ask.login}: may not write to this repository", "ask somebody who may to approve"
        )
    comment = host.comment(ask.comment)
    if comment is None or comment.edited or comment.author != ask.author:
        raise RefusedError(f"comment {ask.comment}: deleted or edited since", _AGAIN)
    if approved(comment.body) != ask.digest:
        raise RefusedError(f"comment {ask.comment}: says another thing by now", _AGAIN)
    found = host.pull_request(ask.number)
    if found is None or not found.is_open:
        raise UsageError(f"#{ask.number}: is no open pull request", "open it again")
    if found.target != host.default_branch:
        raise UsageError(
            f"#{ask.number}: goes to {found.target}", f"have it go to {host.default_branch}"
        )
    return found


def require_approved(ask: Asked, proposal: Proposal) -> None:
    """That what was approved of is what the head proposes now, and can be trained.

    Args:
        ask: whose digest.
        proposal: derived anew from the head, by the target's tool.

    Raises:
        StaleError: it is another (exit 4).
        SlmcompileError: the first thing that keeps it from being trained.
    """
    if proposal.digest != ask.digest:
        raise StaleError(
            f"the plan has changed: approved was {ask.digest[:12]}, and that of"
            f" {proposal.head[:10]} against {proposal.base[:10]} is {proposal.digest[:12]}",
            _AGAIN,
        )
    for problem in proposal.problems:
        raise SlmcompileError(problem.what, problem.hint, code=Exit(problem.code))


def require_still(ask: Asked, host: Host, heads: frozenset[str]) -> None:
    """That an approval holds when something is about to be written.

    Args:
        ask: the approval.
        host: who is asked.
        heads: commits that the pull request may be at: what was approved, and its own result.

    Raises:
        StaleError: something was pushed (exit 4).
        SlmcompileError: as ``authorise``.
    """
    found = authorise(ask, host)
    if found.head not in heads:
        raise StaleError(f"#{ask.number}: {found.head[:10]} was pushed since", _AGAIN)
