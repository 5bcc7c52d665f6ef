"""Git as a program that answers: what a repository could start is off, and every answer has an end.

Only plumbing is called. No hook, filter, textconv, pager or signature check takes part, and what a
repository's own ``.git/config`` could start is switched off on the command line. The user's and
the system's git settings stay, because ``safe.directory`` and the login of a remote live there.
Nothing is asked of another machine unless a caller says so. Knows no revision and no tag.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slmcompile.console.errors import CorruptError, MissingError, RefusedError

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that is kept in memory."""

_SETTINGS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "log.showSignature=false",
)
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "",  # a partial clone must not fetch what it lacks
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_REMOTELY = ("transfer.fsckObjects=true", "push.gpgSign=false", "gc.auto=0", "maintenance.auto=0")
_PROTOCOLS = "file:https:ssh"
"""Those that run nothing here but ssh; ``ext::`` and the like would be a shell line."""
_LOGIN = frozenset({"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS"})
"""What a user has set for git to log in with, which is no use where nobody is asked."""
_SECONDS = 20
_REMOTE_SECONDS = 900
_KILLED = -9  # by us, after so many seconds


@dataclass(frozen=True)
class Answer:
    """What git has said: its exit code, its output and the beginning of its complaints."""

    code: int
    output: bytes
    problem: str

    @property
    def text(self) -> str:
        """The output, of whatever bytes."""
        return self.output.decode("utf-8", "replace")


def git(
    root: Path,
    *words: str,
    given: IO[bytes] | None = None,
    to: IO[bytes] | None = None,
    also: int = 0,
    environ: Mapping[str, str] | None = None,
) -> bytes:
    """Git's answer; ``also`` is an exit code beside 0 that is none of an error.

    Raises:
        CorruptError: git failed (exit 74).
        MissingError, RefusedError: as ``ask``.
    """
    answer = ask(root, *words, given=given, to=to, environ=environ)
    if answer.code not in {0, also}:
        raise CorruptError(f"git {words[0]}: {answer.problem or 'failed'}", "run `git fsck`")
    return answer.output


def ask(
    root: Path,
    *words: str,
    given: IO[bytes] | None = None,
    to: IO[bytes] | None = None,
    remotely: bool = False,
    settings: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Answer:
    """What git says in ``root``, whatever its exit code.

    Args:
        root: a folder of the repository.
        words: the command and what follows it.
        given: its standard input.
        to: where its output goes, of any length, in place of the answer.
        remotely: whether it may talk to another repository, over https, ssh or by path.
        settings: of git, each ``KEY=VALUE``, which have the last word.
        environ: variables of git that are ours to set.

    Raises:
        MissingError: no git here, or no answer in time (exit 69).
        RefusedError: the answer is larger than any that is of use (exit 77).
    """
    # A caller's GIT_DIR and the like must not lead elsewhere; GIT_CONFIG_* is the user's own.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_")
        or name.startswith("GIT_CONFIG_")
        or (remotely and name in _LOGIN)
    }
    allowed = {"GIT_ALLOW_PROTOCOL": _PROTOCOLS} if remotely else {}
    environment = kept | _ENVIRONMENT | allowed | dict(environ or {})
    given_settings = (*_SETTINGS, *(_REMOTELY if remotely else ()), *settings)
    options = [part for setting in given_settings for part in ("-c", setting)]
    # It matches no patterns in paths, and refuses to be told so.
    literal = () if words[0] == "check-ignore" else ("--literal-pathspecs",)
    seconds = _REMOTE_SECONDS if remotely else _SECONDS
    with tempfile.TemporaryFile() as complaints:
        try:
            running = subprocess.Popen(
                ["git", "--no-pager", *literal, *options, *words],
                cwd=root,
                env=environment,
                stdin=given if given is not None else subprocess.DEVNULL,
                stdout=to if to is not None else subprocess.PIPE,
                stderr=complaints,
            )
        except FileNotFoundError as error:
            raise MissingError("git is not installed", "install git") from error
        late = threading.Timer(seconds, running.kill)
        late.start()
        try:
            output = running.stdout.read(MAX_ANSWER + 1) if running.stdout else b""
            if len(output) > MAX_ANSWER:
                raise RefusedError(
                    f"git {words[0]} answers with more than {MAX_ANSWER} bytes",
                    "do not trust this revision",
                )
            code = running.wait()
        finally:
            late.cancel()
            running.kill()
            running.communicate()
        complaints.seek(0)
        problem = " ".join(complaints.read(4096).decode("utf-8", "replace").split())[:300]
    if code == _KILLED:
        raise MissingError(f"git {words[0]}: no answer in {seconds} s", "try again")
    return Answer(code, output, problem)
