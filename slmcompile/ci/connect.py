"""The host as the job's environment names it; imports its client late, since few have it."""

from __future__ import annotations

from collections.abc import Mapping

from slmcompile.ci.host import Host
from slmcompile.console.errors import MissingError


def connect(environ: Mapping[str, str]) -> Host:
    """GitHub, as GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN say; nothing is asked yet.

    Raises:
        SlmcompileError: it cannot be asked (exits 69, 74 and 77).
    """
    try:
        from slmcompile.ci.github import GitHub
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "github":
            raise
        raise MissingError(
            "PyGithub is not installed", "pip install 'slmcompile[github]'"
        ) from error
    return GitHub(
        api=environ.get("GITHUB_API_URL") or "https://api.github.com",
        repository=environ.get("GITHUB_REPOSITORY", ""),
        token=environ.get("GITHUB_TOKEN", ""),
    )
