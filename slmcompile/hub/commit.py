"""Which commit a branch or tag of the Hugging Face hub stands for now. Asks the hub."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from slmcompile.console.errors import MissingError
from slmcompile.hub.errors import hub_errors
from slmcompile.registry.scalars import COMMIT_PATTERN
from slmcompile.sources.keys import HubKeys, RepoKind, SourceKeys

Source = TypeVar("Source", bound=HubKeys)

_TIMEOUT_S = 15.0


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit SHA, which never moves."""
    return revision is not None and re.fullmatch(COMMIT_PATTERN, revision) is not None


def settled(source: SourceKeys) -> bool:
    """Whether it stands for one thing only, as nothing of the hub does but a commit."""
    return not isinstance(source, HubKeys) or is_commit(source.revision)


def at_commit(source: Source) -> Source:
    """The source at the commit that its revision stands for; asks the hub only if it must.

    Raises:
        MissingError, BadRecipeError: see ``commit_of``.
    """
    if is_commit(source.revision):
        return source
    commit = commit_of(source.kind, source.repo_id, source.revision)
    return source.model_copy(update={"revision": commit})


def commit_of(kind: RepoKind, repo_id: str, revision: str | None) -> str:
    """The commit SHA of a branch, a tag or (None) the default branch.

    Raises:
        MissingError: the hub cannot be reached, or the repository is gated (exit 69).
        BadRecipeError: no such repository or revision (exit 78).
    """
    from huggingface_hub import HfApi

    where = f"{repo_id}@{revision}" if revision else repo_id
    api = HfApi()
    ask: Any = api.model_info if kind == "model" else api.dataset_info
    with hub_errors(
        where,
        correct="repo_id and revision",
        instead="write the full commit SHA as revision",
        lost="its commit is not known, and ",
    ):
        sha = ask(repo_id, revision=revision, timeout=_TIMEOUT_S).sha
    if not is_commit(sha):
        raise MissingError(f"{where}: the hub names no commit", "write a full commit SHA")
    return str(sha)
