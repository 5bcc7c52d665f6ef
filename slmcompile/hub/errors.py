"""The errors of the hub's client as ours, for whoever asks the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from slmcompile.console.errors import BadRecipeError, MissingError

# huggingface_hub lets its HTTP library's errors through, and has changed that library from
# requests (before 1.0) to httpx and httpx2 (1.x); their error classes share no base.
_HTTP_LIBRARIES = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"}


@contextmanager
def hub_errors(where: str, *, correct: str, instead: str, lost: str = "") -> Iterator[None]:
    """Turns what the client raises into an error that says what to do.

    Args:
        where: the repository and its revision, as messages name them.
        correct: the keys to correct where there is no such repository.
        instead: what to do where the hub cannot be asked.
        lost: what is not known then, one clause with its comma.

    Raises:
        MissingError: the hub is out of reach, or the repository is gated (exit 69).
        BadRecipeError: no such repository or revision (exit 78).
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise MissingError(
            f"{where}: the repository is gated", "accept its licence and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BadRecipeError(
            f"{where}: no such repository or revision on the hub, or it is private",
            f"correct {correct}, or log in with `hf auth login`",
        ) from error
    except Exception as error:
        no_answer = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled)
        http = type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES
        if not http and not isinstance(error, (*no_answer, ConnectionError, TimeoutError)):
            raise  # a full disk, say
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = re.sub(r"^\[Errno -?\d+\] ", "", reason)
        raise MissingError(
            f"{where}: {lost}the hub is out of reach: {reason}",
            f"check the network and HF_ENDPOINT, or {instead}",
        ) from error
