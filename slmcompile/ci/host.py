"""What is asked of the host of a repository; who answers, and how, is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slmcompile.console.errors import MissingError


class UnsureError(MissingError):
    """Nobody knows whether the host has taken what was to be written (exit 69).

    Whoever writes looks for it before he writes it again.
    """


@dataclass(frozen=True)
class PullRequest:
    """A pull request as it is now.

    Attributes:
        number: in its repository.
        is_open: neither merged nor closed.
        head: the newest commit that it proposes.
        target: the branch that it goes to.
        repository: id of the repository that the head is in; None of one that is no more.
        branch: the branch of that repository.
        from_fork: whether that is another repository than the one that is asked.
    """

    number: int
    is_open: bool
    head: str
    target: str
    repository: int | None = None
    branch: str = ""
    from_fork: bool = True


@dataclass(frozen=True)
class Comment:
    """A comment as it is now."""

    body: str
    author: int
    edited: bool


class Host(Protocol):
    """Answers of the moment: nothing of them is kept for another question.

    What is *ours* was written by the user whose token asks, and begins with a marker. Others can
    write a marker, too.
    """

    @property
    def default_branch(self) -> str:
        """Name of the branch whose tool, lock and policy hold."""
        ...

    def pull_request(self, number: int) -> PullRequest | None:
        """A pull request; None where there is none of this number."""
        ...

    def open_pull_request(self, repository: int, branch: str, commit: str) -> PullRequest | None:
        """The one that goes from a branch at a commit to the default branch; None of none.

        Args:
            repository: id of the repository that the branch is in, a fork perhaps.
            branch: its name there.
            commit: what it has to be at.
        """
        ...

    def merged_pull_request(self, commit: str) -> PullRequest | None:
        """The one whose merge made a commit of the default branch; None of none."""
        ...

    def comment(self, number: int) -> Comment | None:
        """A comment by its id; None of one that is no more."""
        ...

    def writer(self, login: str) -> int | None:
        """The user's id, if he may write to the repository; None if he may not, or is none."""
        ...

    def artifact(self, run: int, name: str, largest: int) -> bytes | None:
        """What a workflow run has uploaded by a name, as an archive; None of none.

        Raises:
            CorruptError: it is larger than ``largest`` bytes, or there are two (exit 74).
        """
        ...

    def our_comments(self, number: int, marker: str) -> Sequence[int]:
        """Ids of our comments of a pull request, the oldest first."""
        ...

    def create_comment(self, number: int, body: str) -> None:
        """Adds a comment to a pull request.

        Raises:
            UnsureError: it may be there (exit 69).
        """
        ...

    def edit_comment(self, comment: int, body: str) -> None:
        """Replaces what a comment says."""
        ...

    def our_issues(self, marker: str) -> Sequence[int]:
        """Numbers of our open issues, the oldest first."""
        ...

    def create_issue(self, title: str, body: str) -> None:
        """Opens an issue.

        Raises:
            UnsureError: it may be there (exit 69).
        """
        ...

    def edit_issue(self, number: int, body: str, *, close: bool = False) -> None:
        """Replaces what an issue says, and closes it if asked to."""
        ...
