"""The files that have a host of a repository run the jobs of a pull request.

Templates lie in ``workflows/``; what differs between repositories is the name of the default branch
and what the tool is installed from. Knows nothing of where files are written.
"""

from __future__ import annotations

import re
from pathlib import Path

from slmcompile.console.errors import UsageError

LOCK = "requirements-slmcompile.txt"
"""What the jobs of a project install: exact versions, in the target's tip."""
FROM_LOCK = f"-r {LOCK}"
EXTRAS = ("attest", "github")
"""Of slmcompile, what jobs on GitHub need of it: to sign, and to ask the host."""
FROM_CHECKOUT = f"-c constraints.txt '.[{','.join(EXTRAS)}]'"
"""In the repository of slmcompile itself."""

FLOW_ON_GITHUB = (
    "A pull request that changes a recipe or its rows is planned in a comment. Somebody who may"
    " write to the repository reads it and comments its last line, `/train` and a digest: it is"
    " trained, held to its bars, and what came out is said in a comment. Merged, it is a version:"
    " `slmcompile versions`, `promote`, `fetch` and `rollback`."
)
FLOW_ON_GITLAB = (
    "A merge request that changes a recipe or its rows is planned, and the comment printed in the"
    " job's log. What is merged is trained by a manual job of the default branch."
)

_TEMPLATES = Path(__file__).parent / "workflows"
_GITHUB = ("plan", "comment", "train", "promote", "drift")
_OF_ITS_COMMIT = "promote"
"""Looks at what was merged, and not at what the branch has come to since."""
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


def github(branch: str, packages: str = FROM_LOCK) -> dict[str, str]:
    """Workflows for GitHub, by path in the repository.

    Args:
        branch: the default branch.
        packages: what ``pip install`` is given.

    Raises:
        UsageError: a branch whose name would be a pattern in a workflow (exit 64).
    """
    if not _BRANCH.fullmatch(branch):
        raise UsageError(
            f"the default branch {branch!r}: its name would be a pattern in a workflow",
            "use letters, digits, '.', '_', '/' and '-'",
        )
    tool = _template("_tool.yml").rstrip("\n")
    return {
        f".github/workflows/{name}.yml": _template(f"{name}.yml")
        .replace("@tool@", tool)
        .replace("@ref@", _ref(name, branch))
        .replace("@branch@", branch)
        .replace("@packages@", packages)
        for name in _GITHUB
    }


def gitlab(packages: str = FROM_LOCK) -> dict[str, str]:
    """The pipeline for GitLab, which is generated only: no GitLab has run it."""
    return {".gitlab-ci.yml": _template("gitlab-ci.yml").replace("@packages@", packages)}


def to_set_on_github(branch: str) -> tuple[str, ...]:
    """What an owner sets, since no file of a repository can: a sentence or two each."""
    return (
        "Storage: `dvc remote add --default main URL/main`, `dvc remote add pr URL/pr`; promoted"
        " objects lie in the first, those of pull request N in pr/N of the second. A bucket takes"
        " its driver, `pip install 'slmcompile[s3]'` (gs, azure, ssh), before this, for"
        f" {LOCK} to have it.",
        "Settings, Environments: make `train`, `push` and `promote`, each with the branch"
        f" {branch} as its only deployment branch, and with reviewers where two are to agree."
        " Secrets belong to them alone: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (train reads"
        " main/ and writes pr/, push reads pr/, promote reads pr/ and writes main/; or OIDC, as the"
        " files show), and SLMCOMPILE_SIGNING_KEY in `push`.",
        "Settings, Actions, General: require approval for all external contributors; read-only"
        " permissions for workflows.",
        f"Settings, Rules: a ruleset for {branch} (pull requests only, and the check `Plan`), and"
        " one for tags `*@*` and `*#*` (nobody moves or deletes one).",
        f"{_HASHES} Commit all of it, and open a pull request that changes a recipe.",
    )


def to_set_on_gitlab() -> tuple[str, ...]:
    """The same for GitLab."""
    return (
        "Storage: `dvc remote add --default main URL/main`.",
        "Settings, Repository: protect the default branch.",
        "Settings, CI/CD: protect the environment `train`, let those deploy to it who may approve a"
        " training, and give it alone the storage's credentials, as protected variables.",
        "Build, Pipeline schedules: one a night on the default branch.",
        f"{_HASHES} Commit all of it; .gitlab-ci.yml says what it does not do, and that nobody has"
        " tried it on a GitLab.",
    )


_HASHES = (
    f"Do what the first lines of {LOCK} say. Then `uv pip compile {LOCK} --generate-hashes"
    f" -o {LOCK}` (`pip install uv`): pip then takes nothing but those files."
)


def _ref(name: str, branch: str) -> str:
    return "${{ github.sha }}" if name == _OF_ITS_COMMIT else f"refs/heads/{branch}"


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
