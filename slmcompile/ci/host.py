"""What is asked of the host of a repository; who answers, and how, is not known here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class PullRequest:
    """A pull request as it is now.

    Attributes:
        number: in its repository.
        is_open: neither merged nor closed.
        head: the newest commit that it proposes.
        target: the branch that it goes to.
    """

    number: int
    is_open: bool
    head: str
    target: str


@dataclass(frozen=True)
class Comment:
    """A comment as it is now."""

    body: str
    author: int
    edited: bool


class Host(Protocol):
    """Answers of the moment: nothing of them is kept for another question."""

    @property
    def default_branch(self) -> str:
        """Name of the branch whose tool, lock and policy hold."""
        ...

    def pull_request(self, number: int) -> PullRequest | None:
        """A pull request; None where there is none of this number."""
        ...

    def comment(self, number: int) -> Comment | None:
        """A comment by its id; None of one that is no more."""
        ...

    def writer(self, login: str) -> int | None:
        """The user's id, if he may write to the repository; None if he may not, or is none."""
        ...
