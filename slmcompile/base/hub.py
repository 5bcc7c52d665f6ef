"""A base model of the Hugging Face hub, at one commit.

Uses the hub's own cache (``HF_HOME``), so that an interrupted download goes on where it stopped;
what lands in the artifact is a copy.
"""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

from slmcompile.base.layout import ALLOWED, refuse_code, refuse_unsafe
from slmcompile.errors import BadRecipeError, MissingError
from slmcompile.progress import Progress
from slmcompile.recipe.schema import HubModel

# huggingface_hub lets its HTTP library's errors through, and has changed that library from
# requests (before 1.0) to httpx and httpx2 (1.x); their error classes share no base.
_HTTP_LIBRARIES = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"}


def fetch_hub(source: HubModel, out: Path, progress: Progress) -> None:
    """Downloads the repository's allowed top-level files at ``revision`` into ``out``.

    Names and configuration are looked at before any weight is downloaded.

    Raises:
        RefusedError: ``auto_map`` or pickled weights only.
        BadRecipeError: no such repository or commit.
        MissingError: the hub is out of reach, or the repository is gated for this user.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{source.repo_id}@{(source.revision or 'main')[:12]}"
    progress.say(f"fetching {where} from the hub")
    try:
        # One request that is not retried for half a minute, as listing the tree would be.
        found = HfApi().model_info(source.repo_id, revision=source.revision).siblings or []
        names = sorted(each.rfilename for each in found if "/" not in each.rfilename)
        refuse_unsafe(names, where)
        wanted = [name for name in names if any(fnmatch(name, each) for each in ALLOWED)]
        wanted.sort(key=lambda name: (not name.endswith("config.json"), name))
        for name in wanted:
            cached = hf_hub_download(source.repo_id, name, revision=source.revision)
            shutil.copyfile(cached, out / name)
            if name.endswith("config.json"):
                refuse_code(json.loads((out / name).read_text("utf-8")), f"{where}/{name}")
    except GatedRepoError as error:
        raise MissingError(
            f"{where}: the repository is gated", "accept its licence and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BadRecipeError(
            f"{where}: no such repository or commit on the hub", "correct model.source"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(where, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _HTTP_LIBRARIES:
            raise
        raise _unreachable(where, error) from error


def _unreachable(where: str, error: Exception) -> MissingError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return MissingError(
        f"{where}: the hub is out of reach: {reason}",
        "check the network and HF_ENDPOINT, or use a model from a package or a folder",
    )
