"""GitHub, asked through PyGithub for what ``host.Host`` asks; GitHub Enterprise too.

Every answer is of the moment. PyGithub checks the types of what it is given where that is read,
and gives None for what is not there; ``_there`` and ``_answers`` make errors of ours of both. Of
the token nobody is told: not by an argument, a message or an address that is asked elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar, cast
from urllib.parse import quote

import github
from github.Artifact import Artifact
from github.IssueComment import IssueComment
from github.NamedUser import NamedUser
from github.PaginatedList import PaginatedList
from github.PullRequest import PullRequest as Found
from github.Repository import Repository

from slmcompile.ci import transport
from slmcompile.ci.host import Comment, PullRequest
from slmcompile.console.errors import CorruptError, MissingError, RefusedError, SlmcompileError
from slmcompile.console.redact import redact

_T = TypeVar("_T")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,99}/[\w.-]{1,100}", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")
_PAGE = 100
_MOST = 3000
"""Pull requests, comments or issues that are looked through."""

_GONE = frozenset({404, 410})
_MAY_WRITE = frozenset({"admin", "write"})
"""Of ``permission``, which has maintain as write and triage as read; ``role_name`` has not."""

_WHOSE = "query { viewer { login } }"
# Whatever PyGithub 2.10 meets in what it takes apart without a look: a link header, a page, a
# number in a header, an address of another host.
_UNREADABLE = (
    github.BadAttributeException,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


class GitHub:
    """One repository, asked with one token."""

    def __init__(self, api: str, repository: str, token: str) -> None:
        """Nothing is asked yet.

        Args:
            api: address of the API, ``https://api.github.com``.
            repository: ``owner/name``.
            token: what asks.

        Raises:
            MissingError: no token, or nothing that could be one (exit 69).
            RefusedError: the token would go where others can read along (exit 77).
            CorruptError: no name of a repository (exit 74).
        """
        transport.require_private(api, "GITHUB_API_URL")
        if not _TOKEN.fullmatch(token):
            raise MissingError("GITHUB_TOKEN: is no token", "give the job its token")
        if not _REPOSITORY.fullmatch(repository):
            raise CorruptError("GITHUB_REPOSITORY: is not OWNER/NAME", "call it in a job")
        transport.install()
        self._name = repository
        self._token = token
        # What is lazy asks for what is read of it, and not once more before.
        self._client = github.Github(
            base_url=api.rstrip("/"),
            auth=github.Auth.Token(token),
            per_page=_PAGE,
            retry=0,
            lazy=True,
            user_agent="slmcompile",
            seconds_between_requests=0,
            seconds_between_writes=0,
        )

    @property
    def default_branch(self) -> str:
        """As ``Host``."""
        with self._answers(self._name):
            return _there(self._repository.default_branch)

    def pull_request(self, number: int) -> PullRequest | None:
        """As ``Host``."""
        with self._answers(f"#{number}"):
            found = self._repository.get_pull(number)
            return self._unless_gone(lambda: _pull_request(found))

    def open_pull_request(self, repository: int, branch: str, commit: str) -> PullRequest | None:
        """As ``Host``. GitHub has one at most for a branch and where it goes to."""
        target = self.default_branch
        with self._answers("open pull requests"):
            # The one of a run that has just ended is among the first.
            listed = self._repository.get_pulls(
                state="open", base=target, sort="updated", direction="desc"
            )
            for found in map(_pull_request, islice(listed, _MOST)):
                of = (found.repository, found.branch, found.head, found.target)
                if of == (repository, branch, commit, target) and found.is_open:
                    return found
        return None

    def merged_pull_request(self, commit: str) -> PullRequest | None:
        """As ``Host``."""
        target = self.default_branch
        with self._answers(f"pull requests of {commit[:10]}"):
            for found in islice(self._repository.get_commit(commit).get_pulls(), _PAGE):
                made = found.merged_at and found.merge_commit_sha == commit
                if made and _there(found.base).ref == target:
                    return _pull_request(found)
        return None

    def comment(self, number: int) -> Comment | None:
        """As ``Host``."""
        with self._answers(f"comment {number}"):
            found = self._comment(number)
            return self._unless_gone(
                lambda: Comment(
                    body=_there(found.body),
                    author=_there(cast(NamedUser, _there(found.user)).id),
                    edited=_there(found.updated_at) != _there(found.created_at),
                )
            )

    def writer(self, login: str) -> int | None:
        """As ``Host``."""
        path = f"/repos/{self._name}/collaborators/{quote(login, safe='')}/permission"
        with self._answers(f"permission of {login}"):
            # PyGithub's method keeps the permission and drops whose it is.
            answer = self._unless_gone(
                lambda: self._client.requester.requestJsonAndCheck("GET", path)[1]
            )
            if answer is None or answer["permission"] not in _MAY_WRITE:
                return None
            return _whole(answer["user"]["id"])

    def artifact(self, run: int, name: str, largest: int) -> bytes | None:
        """As ``Host``. The bytes come from a store that is given no token."""
        shown = f"artifact {name} of run {run}"
        requester = self._client.requester
        with self._answers(shown):
            listed = PaginatedList(
                Artifact,
                requester,
                f"/repos/{self._name}/actions/runs/{run}/artifacts",
                {"name": name},
                list_item="artifacts",
            )
            found = [each for each in islice(listed, _PAGE) if each.name == name]
            there = [each for each in found if not each.expired]
            if not there:
                return None
            if len(found) > 1:
                raise CorruptError(f"{shown}: there are {len(found)}", "have the run upload one")
            if _there(there[0].size_in_bytes) > largest:
                raise CorruptError(f"{shown}: larger than {largest} bytes", "have it upload less")
            path = f"/repos/{self._name}/actions/artifacts/{_there(there[0].id)}/zip"
            status, headers, _ = requester.requestJson("GET", path)
            if status != 302:
                raise github.GithubException(status, None, None)
            data = transport.download(headers["location"], largest, shown)
        if len(data) > largest:
            raise CorruptError(f"{shown}: larger than {largest} bytes", "have it upload less")
        return data

    def our_comments(self, number: int, marker: str) -> Sequence[int]:
        """As ``Host``."""
        me = self._me
        with self._answers(f"comments of #{number}"):
            listed = self._repository.get_issue(number).get_comments()
            return _marked(listed, marker, me, "id")

    def create_comment(self, number: int, body: str) -> None:
        """As ``Host``."""
        with self._answers(f"comment of #{number}"):
            self._repository.get_issue(number).create_comment(body)

    def edit_comment(self, comment: int, body: str) -> None:
        """As ``Host``."""
        with self._answers(f"comment {comment}"):
            self._comment(comment).edit(body)

    def our_issues(self, marker: str) -> Sequence[int]:
        """As ``Host``."""
        me = self._me
        with self._answers("open issues"):
            return _marked(self._repository.get_issues(state="open"), marker, me, "number")

    def create_issue(self, title: str, body: str) -> None:
        """As ``Host``."""
        with self._answers("issue"):
            self._repository.create_issue(title, body=body)

    def edit_issue(self, number: int, body: str, *, close: bool = False) -> None:
        """As ``Host``."""
        with self._answers(f"issue #{number}"):
            issue = self._repository.get_issue(number)
            issue.edit(body=body, state="closed" if close else "open")

    @property
    def _repository(self) -> Repository:
        return self._client.get_repo(self._name)

    def _comment(self, number: int) -> IssueComment:
        url = f"/repos/{self._name}/issues/comments/{number}"
        return IssueComment(self._client.requester, url=url)

    @cached_property
    def _me(self) -> int:
        """Id of the token's own user; a job's token may not ask ``/user``, but for its login."""
        with self._answers("the token's user"):
            _, answer = self._client.requester.graphql_query(_WHOSE, {})
            return _there(self._client.get_user(str(answer["data"]["viewer"]["login"])).id)

    @staticmethod
    def _unless_gone(read: Callable[[], _T]) -> _T | None:
        """What a first look at something gives; None where the host has nothing there."""
        try:
            return read()
        except github.GithubException as error:
            if error.status in _GONE:
                return None
            raise

    @contextmanager
    def _answers(self, shown: str) -> Iterator[None]:
        """Makes errors of ours of what PyGithub raises; ``shown`` is what was asked for."""
        where = f"{self._name}: {shown}"
        try:
            yield
        except SlmcompileError:
            raise
        except github.GithubException as error:
            raise self._refusal(error, where) from error
        except _UNREADABLE as error:
            raise CorruptError(
                f"{where}: an answer that cannot be read ({type(error).__name__})",
                "check GITHUB_API_URL, and try again",
            ) from error

    def _refusal(self, error: github.GithubException, where: str) -> SlmcompileError:
        said = error.data.get("message") if isinstance(error.data, dict) else None
        why = redact(f"{error.status} {said or ''}".strip(), (self._token,))
        if error.status in {401, 403}:
            return RefusedError(f"{where}: {why}", "give the job's token the permission it needs")
        if error.status == 404:
            return MissingError(f"{where}: is not there, or not for this token", "check both")
        return MissingError(f"{where}: the host answers {why}", "try again")


def _pull_request(found: Found) -> PullRequest:
    head, base = _there(found.head), _there(found.base)
    # The fork may have been deleted since.
    repository = _there(head.repo.id) if head.repo else None
    return PullRequest(
        number=_there(found.number),
        is_open=_there(found.state) == "open",
        head=_there(head.sha),
        target=_there(base.ref),
        repository=repository,
        branch=_there(head.ref),
        from_fork=repository != _there(_there(base.repo).id),
    )


def _marked(listed: Iterable[Any], marker: str, me: int, key: str) -> Sequence[int]:
    """Of comments or issues, those that begin with a marker and are of one author, by age."""
    found = (
        _whole(getattr(each, key))
        for each in islice(listed, _MOST)
        if each.user and each.user.id == me and (each.body or "").startswith(marker)
    )
    return sorted(found)


def _there(value: _T | None) -> _T:
    """What an answer has to have; ValueError, where it has not."""
    if value is None:
        raise ValueError
    return value


def _whole(value: Any) -> int:
    """A whole number of an answer; ValueError of anything else."""
    if type(value) is not int:
        raise ValueError
    return value
