"""Which commit a branch or tag of the Hugging Face hub stands for now. Asks the hub."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar

from slmcompile.errors import BadRecipeError, MissingError
from slmcompile.recipe.schema import COMMIT_PATTERN, HubData, HubModel

RepoKind = Literal["model", "dataset"]
Source = TypeVar("Source", HubModel, HubData)

_TIMEOUT_S = 15.0
# Their error classes share no base; see slmcompile.base.hub.
_HTTP_LIBRARIES = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"}


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit SHA, which never moves."""
    return revision is not None and re.fullmatch(COMMIT_PATTERN, revision) is not None


def at_commit(source: Source) -> Source:
    """The source at the commit that its revision stands for; asks the hub only if it must.

    Raises:
        MissingError, BadRecipeError: see ``commit_of``.
    """
    if is_commit(source.revision):
        return source
    kind: RepoKind = "model" if isinstance(source, HubModel) else "dataset"
    return source.model_copy(update={"revision": commit_of(kind, source.repo_id, source.revision)})


def commit_of(kind: RepoKind, repo_id: str, revision: str | None) -> str:
    """The commit SHA of a branch, a tag or (None) the default branch.

    Raises:
        MissingError: the hub cannot be reached, or the repository is gated (exit 69).
        BadRecipeError: no such repository or revision (exit 78).
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{repo_id}@{revision}" if revision else repo_id
    api = HfApi()
    ask: Any = api.model_info if kind == "model" else api.dataset_info
    try:
        sha = ask(repo_id, revision=revision, timeout=_TIMEOUT_S).sha
    except GatedRepoError as error:
        raise MissingError(
            f"{where}: the repository is gated", "accept its licence and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BadRecipeError(
            f"{where}: no such {kind} or revision on the hub, or it is private",
            "correct repo_id and revision, or log in with `hf auth login`",
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise _unreachable(where, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _HTTP_LIBRARIES:
            raise
        raise _unreachable(where, error) from error
    if not is_commit(sha):
        raise MissingError(f"{where}: the hub names no commit", "write a full commit SHA")
    return str(sha)


def _unreachable(where: str, error: Exception) -> MissingError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return MissingError(
        f"{where}: its commit is not known, and the hub is out of reach: {reason}",
        "check the network and HF_ENDPOINT, or write the full commit SHA as revision",
    )
