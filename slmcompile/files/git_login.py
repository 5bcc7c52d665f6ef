"""The token of a job, for git: to the host that it is of alone, in git's environment.

Nothing of it stands on a command line or in a file. Knows no remote and no command.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import urlsplit


def job_login(environ: Mapping[str, str], address: str) -> dict[str, str]:
    """Variables with which git logs in at ``address`` as a job of the host does.

    None where the job has no token, or the address is not of the host that the token is of.
    """
    token, server = environ.get("GITHUB_TOKEN", ""), environ.get("GITHUB_SERVER_URL", "")
    here, there = urlsplit(address), urlsplit(server)
    if not token or not here.scheme == there.scheme == "https" or here.netloc != there.netloc:
        return {}
    secret = base64.b64encode(f"x-access-token:{token}".encode()).decode("ascii")
    header = f"http.{there.scheme}://{there.netloc}/.extraheader"
    settings = (
        # An empty one voids those before it: two of them are refused.
        (header, ""),
        (header, f"AUTHORIZATION: basic {secret}"),
        # It would go along to wherever the host sends git.
        ("http.followRedirects", "false"),
    )
    before = environ.get("GIT_CONFIG_COUNT", "")
    first = int(before) if before.isdigit() else 0
    told = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings, first):
        told |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return told
