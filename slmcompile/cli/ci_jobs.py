"""``ci train``, ``ci push`` and ``ci promote``: what has credentials of a store."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slmcompile.ci.outputs import disarmed, write_outputs
from slmcompile.console.errors import Exit, RefusedError, SlmcompileError, UsageError, all_of

if TYPE_CHECKING:
    from slmcompile.ci.authorise import Asked
    from slmcompile.ci.job import Job

_REFUSED, _CODE = "SLMCOMPILE_REFUSED", "SLMCOMPILE_CODE"
_RUN = "GITHUB_RUN_ID"
_DIGITS = re.compile(r"[0-9]{1,19}")
_ALONE = "give each job a folder of its own"


def train(arguments: Namespace) -> int:
    """Runs what the event's comment approves of; keeps what is finished in the store."""
    from slmcompile.ci.train import train as run

    with _job(arguments) as job:
        done = run(job)
    write_outputs(os.environ, record=done.sha256, code=done.record.code)
    return done.record.code


def answer(_: Namespace) -> int:
    """Says that it is trained, or why it is not, in one line that proves nothing."""
    from slmcompile.ci import outcome
    from slmcompile.ci.connect import connect
    from slmcompile.ci.posting import say

    ask, refused = _asked(), os.environ.get(_REFUSED)
    body = outcome.refused(refused) if refused else outcome.started(ask.login, _page())
    say(connect(os.environ), ask.number, body)
    return Exit.DONE


def push(arguments: Namespace) -> int:
    """Commits what was trained, and says in the thread what came out, also where nothing did."""
    from slmcompile.ci.push import fail, refuse
    from slmcompile.ci.push import push as run
    from slmcompile.provenance.keys import key_of_environment

    with _job(arguments) as job:
        if not arguments.record:
            code = os.environ.get(_CODE)
            what = f"the training ended with {f'exit {code}' if code else 'no result'}"
            refuse(job, what, _page())
            return Exit.DONE
        try:
            return run(job, arguments.record, key_of_environment())
        except SlmcompileError as error:
            fail(job, error, _page())
            raise


def promote(arguments: Namespace) -> int:
    """Makes versions of what a commit of the default branch brought, and trains nothing."""
    from slmcompile.ci import outcome
    from slmcompile.ci.promote import promote as run
    from slmcompile.ci.promoted import Merged
    from slmcompile.files.revision import resolve
    from slmcompile.provenance.keys import trusted_keys
    from slmcompile.recipe.project import find_project

    project = find_project()
    target = resolve(project.root, arguments.commit)
    trusted = tuple(trusted_keys(project, target.commit).values())
    try:
        made = run(project, target, trusted, arguments.to, _say)
    except SlmcompileError as error:  # before any recipe was looked at
        made = Merged((), (error,))
    for each in made.done:
        print(f"{each.version} is {each.stage}" if each.stage else each.version)
    if made.done or made.wrong:
        _tell_merged(target.commit, outcome.merged(made))
    if made.wrong:
        raise all_of(made.wrong)
    return Exit.DONE


def _tell_merged(commit: str, body: str) -> None:
    """Says it in the thread of the pull request whose merge made a commit, if one did."""
    from slmcompile.ci.connect import connect
    from slmcompile.ci.posting import say

    if os.environ.get("GITHUB_TOKEN"):
        host = connect(os.environ)
        found = host.merged_pull_request(commit)
        if found is not None:
            say(host, found.number, body)


@contextmanager
def _job(arguments: Namespace) -> Iterator[Job]:
    from slmcompile.ci.connect import connect
    from slmcompile.ci.job import EVERY, Job
    from slmcompile.files.revision import resolve
    from slmcompile.recipe.project import find_project

    ask = _asked()
    project = find_project()
    target = resolve(project.root, arguments.against)
    # A host that cancels a job asks first: what runs then leaves a checkpoint, which is kept.
    signal.signal(signal.SIGTERM, _terminated)
    with tempfile.TemporaryDirectory(prefix="slmcompile-ci-") as own:
        folder = _empty(Path(arguments.workspace or own))
        every = getattr(arguments, "every", EVERY)
        yield Job(project, connect(os.environ), ask, target, folder, os.environ, _say, every)


def _empty(folder: Path) -> Path:
    """The folder, in which nothing of another job may lie."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RefusedError(f"--workspace {folder}: is no folder", _ALONE)
    if folder.exists() and any(folder.iterdir()):
        raise RefusedError(f"--workspace {folder}: is not empty", _ALONE)
    return folder


def _terminated(*_: object) -> None:
    raise SystemExit(int(Exit.TERMINATED))


def _asked() -> Asked:
    """What the event's comment asks for."""
    from slmcompile.ci.authorise import asked
    from slmcompile.ci.event import read_event

    ask = asked(read_event(os.environ, "issue_comment"))
    if ask is None:
        raise UsageError("the event's comment asks for nothing", "comment as the plan says")
    return ask


def _page() -> str:
    """Address of this run's page, where it is a job's."""
    from slmcompile.ci.event import run_page

    number = os.environ.get(_RUN, "")
    return run_page(os.environ, int(number)) if _DIGITS.fullmatch(number) else ""


def _say(text: str) -> None:
    print(disarmed(text), file=sys.stderr, flush=True)
