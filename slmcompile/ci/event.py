"""What a job was started by, as GitHub's runner leaves it in the environment and in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from slmcompile.ci.proposal import Commit
from slmcompile.console.errors import CorruptError, UsageError
from slmcompile.files.safe_read import read_regular
from slmcompile.files.strict_json import decoder

_LARGEST = 32 << 20
"""Bytes; a webhook has 25 MB."""

_Id = Annotated[int, Field(ge=1, lt=1 << 63)]
_IN_A_JOB = "call it in a job of GitHub Actions"
_SERVER = re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def read_event(environ: Mapping[str, str], name: str) -> Mapping[str, Any]:
    """The event that started a job.

    Args:
        environ: the job's environment.
        name: what it has to be, ``issue_comment`` for one.

    Raises:
        UsageError: no such event (exit 64).
        CorruptError: not as a runner writes it (exit 74).
    """
    is_called = environ.get("GITHUB_EVENT_NAME", "")
    path = environ.get("GITHUB_EVENT_PATH", "")
    if is_called != name or not path:
        raise UsageError(f"the event is {is_called or 'none'} and not {name}", _IN_A_JOB)
    file = Path(path).absolute()
    data = read_regular(file.parent, file.name, "GITHUB_EVENT_PATH", _LARGEST)
    if data is None or len(data) > _LARGEST:
        raise CorruptError("GITHUB_EVENT_PATH: no event can be read there", _IN_A_JOB)
    try:
        event = decoder().decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptError("GITHUB_EVENT_PATH: is not JSON", _IN_A_JOB) from error
    if not isinstance(event, dict):
        raise CorruptError("GITHUB_EVENT_PATH: is no event", _IN_A_JOB)
    return event


@dataclass(frozen=True)
class _Repository:
    id: _Id


@dataclass(frozen=True)
class _WorkflowRun:
    id: _Id
    event: str
    conclusion: str | None
    head_branch: str | None
    head_sha: Commit
    head_repository: _Repository | None


@dataclass(frozen=True)
class PlanRun:
    """A run of the plan's workflow that has ended, for a pull request.

    Attributes:
        number: its id.
        failed: whether a job of it has failed.
        repository: id of the repository that was planned, a fork perhaps.
        branch: the branch there. A contributor names it: it decides nothing but for (17).
        commit: what was planned.
    """

    number: int
    failed: bool
    repository: int
    branch: str
    commit: str


_RUN = TypeAdapter(_WorkflowRun)
_ENDS = frozenset({"success", "failure"})


def plan_run(event: Mapping[str, Any]) -> PlanRun | None:
    """The run that an event tells of; None of one that there is nothing to say about.

    A workflow of the same name runs on other events, too, and a run that was cancelled is followed
    by another.

    Args:
        event: GitHub's ``workflow_run``.

    Raises:
        CorruptError: not as GitHub writes it (exit 74).
    """
    try:
        run = _RUN.validate_json(json.dumps(event.get("workflow_run")), strict=True)
    except ValueError as error:
        raise CorruptError("GITHUB_EVENT_PATH: tells of no run", _IN_A_JOB) from error
    of_interest = event.get("action") == "completed" and run.event == "pull_request"
    if not of_interest or run.conclusion not in _ENDS:
        return None
    if run.head_repository is None or not run.head_branch:
        return None  # the fork is no more
    return PlanRun(
        number=run.id,
        failed=run.conclusion == "failure",
        repository=run.head_repository.id,
        branch=run.head_branch,
        commit=run.head_sha,
    )


def run_page(environ: Mapping[str, str], number: int) -> str:
    """Address of a run's page; empty where the environment does not say it as expected."""
    server = environ.get("GITHUB_SERVER_URL", "")
    repository = environ.get("GITHUB_REPOSITORY", "")
    if not _SERVER.fullmatch(server) or not _REPOSITORY.fullmatch(repository):
        return ""
    return f"{server}/{repository}/actions/runs/{number}"
