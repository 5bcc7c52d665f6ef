"""The repository's ``origin``: objects come from it, and one ref at a time goes to it.

As in ``files.revision`` nothing that a repository holds is executed: no hook, filter, submodule,
LFS or credential program, and no transport but the one of origin's address. The address is what is
asked, not the remote of that name, whose settings could name programs. A token goes to the host
that it is of alone, in git's environment and never on a command line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from slmcompile.console.errors import (
    LockedError,
    MissingError,
    RefusedError,
    SlmcompileError,
    StaleError,
    UsageError,
)
from slmcompile.console.redact import redact, secrets_of
from slmcompile.files.git import Answer, ask
from slmcompile.files.git_login import job_login
from slmcompile.files.revision import resolve

_SETTINGS = (
    "core.alternateRefsCommand=:",
    "core.sshCommand=ssh",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "http.followRedirects=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
)
_ASKS_NOBODY = {"GIT_ASKPASS": ""}

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REF = re.compile(r"refs/[A-Za-z0-9][\w./@#!-]{0,250}", re.ASCII)
_LOST = re.compile(
    r"stale info|fetch first|non-fast-forward|already exists|cannot lock ref|failed to update ref"
    r"|reference conflict|failed to lock"
)
_NOT_ALLOWED = re.compile(
    r"authentication failed|could not read username|permission|denied|error: 40[13]|declined"
    r"|refusing to allow|protected branch|remote rejected|rejected by",
    re.IGNORECASE,
)
_ORIGIN = "remote.origin.url"


def is_here(root: Path, commit: str) -> bool:
    """Whether a commit's object is in the repository."""
    try:
        return resolve(root, commit).commit == commit
    except UsageError:
        return False


def fetch(root: Path, ref: str, commit: str) -> None:
    """Brings the objects of a commit and of its history, and no ref or file.

    Args:
        root: a folder of the repository.
        ref: what origin has the commit under, ``refs/pull/7/head`` for one.
        commit: its hash.

    Raises:
        StaleError: it is another by now (exit 4).
        MissingError: origin cannot be reached, or has no such ref (exit 69).
        RefusedError: it may not be read (exit 77).
    """
    _check(ref, commit)
    words = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--quiet")
    done = _git(root, "fetch", *words, "--", _origin(root), ref)
    if done.code != 0:
        raise _failed(f"{ref} of origin", done.problem)
    if not is_here(root, commit):
        raise StaleError(f"{ref} of origin: {commit[:10]} was pushed over", "look at it anew")


def push(root: Path, commit: str, ref: str, expected: str | None) -> None:
    """Sets one ref of origin, if it is where it is expected to be when origin looks.

    Args:
        root: a folder of the repository, which has the object.
        commit: the hash of a commit or of a tag's object.
        ref: what to set, ``refs/heads/x`` for one.
        expected: where it is now; None where it must not be there.

    Raises:
        StaleError: it is at another by now (exit 4).
        LockedError: it must not be there, and is (exit 5).
        MissingError: origin cannot be reached (exit 69).
        RefusedError: it may not be written (exit 77).
    """
    _check(ref, commit, *([expected] if expected else []))
    lease = f"--force-with-lease={ref}:{expected or ''}"
    words = ("--porcelain", "--atomic", "--no-verify", "--no-follow-tags", lease)
    done = _git(root, "push", *words, "--", _origin(root), f"{commit}:{ref}")
    if done.code == 0:
        return
    answer = next((line for line in done.text.splitlines() if line.startswith("!\t")), "")
    if _LOST.search(answer):
        if expected is None:
            raise LockedError(f"{ref} of origin: another was first", "run it again")
        raise StaleError(f"{ref} of origin: is no longer at {expected[:10]}", "look at it anew")
    raise _failed(f"{ref} of origin", f"{answer} {done.problem}")


def _check(ref: str, *hashes: str) -> None:
    """That nothing of it is an option, a pattern or another thing than a ref and hashes."""
    plain = _REF.fullmatch(ref) and not re.search(r"\.\.|//|/\.|\.lock(/|$)|[/.]$|@\{", ref)
    if not plain or not all(_HASH.fullmatch(each) for each in hashes):
        raise UsageError(f"{ref}: is no ref and hash", "name refs/… and whole hashes")


def _origin(root: Path) -> str:
    done = _git(root, "config", "--get", _ORIGIN)
    address = done.text.removesuffix("\n")
    if done.code != 0 or not address:
        raise MissingError("origin: the repository has no such remote", "git remote add origin …")
    if _scheme(address) is None:
        raise RefusedError(
            f"origin: {address} is no address over HTTPS or SSH, and no folder",
            "git remote set-url origin …",
        )
    return address


def _scheme(address: str) -> str | None:
    """The transport that git would take; None of one that is not taken."""
    if "::" in address or address.startswith("-"):
        return None
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme:
        return scheme if scheme in {"https", "ssh", "file"} else None
    # As git itself tells host:path from a folder.
    before, colon, _ = address.partition(":")
    return "ssh" if colon and "/" not in before else "file"


def _git(root: Path, *words: str) -> Answer:
    """Git's answer, with the job's token if origin is of the host that the token is of."""
    address = words[words.index("--") + 1] if "--" in words else ""
    # Of all that could allow a transport this alone has the last word.
    allowed = {"GIT_ALLOW_PROTOCOL": (_scheme(address) if address else None) or ""}
    login = job_login(os.environ, address)
    return ask(
        root, *words, remotely=True, settings=_SETTINGS, environ=login | _ASKS_NOBODY | allowed
    )


def _failed(shown: str, said: str) -> SlmcompileError:
    # Git's own words may have an address with a password, and a server's may have anything.
    why = redact(" ".join(said.split())[:300], secrets_of(os.environ))
    if _NOT_ALLOWED.search(said):
        return RefusedError(f"{shown}: refused: {why}", "give the job's token the right to it")
    return MissingError(f"{shown}: {why or 'git failed'}", "check the network and the remote")
