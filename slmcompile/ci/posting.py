"""Comments of ours in a pull request: one of a kind, edited; and which one is the plan's.

Which pull request a plan is of says the host, by repository, branch and commit of the run that
made it. The document says nothing of that, and is shown only as what it is: anybody's.
"""

from __future__ import annotations

from slmcompile.ci import comment as rendering
from slmcompile.ci.archive import LARGEST_ARCHIVE, document
from slmcompile.ci.event import PlanRun
from slmcompile.ci.host import Host, UnsureError
from slmcompile.ci.proposal import read
from slmcompile.console.errors import CorruptError, SlmcompileError, StaleError
from slmcompile.console.printable import printable
from slmcompile.report.inert import code

ARTIFACT = "proposal"
"""What the plan's job uploads its document as."""

_TRIES = 3
_AGAIN = "plan anew: push, or run the plan's workflow again"


def say(host: Host, number: int, body: str, heads: frozenset[str] | None = None) -> bool:
    """Says something in a pull request's thread, in our one comment of that kind.

    Its first line is the marker that it is found again by. What the host has perhaps taken is
    looked for before it is written once more.

    Args:
        host: who is asked, and told.
        number: of the pull request.
        body: Markdown that does nothing.
        heads: commits that the pull request may be at; None where any will do.

    Returns:
        Whether it is said: not where the pull request is at another commit, or closed.

    Raises:
        SlmcompileError: as the host.
    """
    marker = body.partition("\n")[0]
    for left in reversed(range(_TRIES)):
        ours = host.our_comments(number, marker)
        # The last question before it is written: a slower, older run must not win.
        if heads is not None:
            found = host.pull_request(number)
            if found is None or not found.is_open or found.head not in heads:
                return False
        try:
            if ours:
                host.edit_comment(ours[0], body)
            else:
                host.create_comment(number, body)
        except UnsureError:
            if not left:
                raise
        else:
            return True
    return False


def post_plan(run: PlanRun, host: Host, data: bytes | None, shown: str, page: str) -> int | None:
    """Says what a run has planned in the thread of its pull request.

    Args:
        run: the run.
        host: who is asked, and told.
        data: the archive that it has uploaded; None to have the host asked for it.
        shown: what messages call it.
        page: address of the run's page, or nothing.

    Returns:
        Number of the pull request; None where none is at the run's commit (any more).

    Raises:
        SlmcompileError: what was uploaded cannot be read, which is said in the thread by then.
    """
    found = host.open_pull_request(run.repository, run.branch, run.commit)
    if found is None:
        return None
    try:
        body = _body(run, host, data, shown, page)
    except (CorruptError, StaleError) as error:
        # Else the plan of an older commit would go on standing there.
        say(host, found.number, failed(run.commit, page, error), frozenset({run.commit}))
        raise
    said = say(host, found.number, body, frozenset({run.commit}))
    return found.number if said else None


def _body(run: PlanRun, host: Host, data: bytes | None, shown: str, page: str) -> str:
    if data is None:
        data = host.artifact(run.number, ARTIFACT, LARGEST_ARCHIVE)
    if data is None:
        return failed(run.commit, page)
    proposal = read(document(data, shown), shown)
    if proposal.head != run.commit:
        raise CorruptError(f"{shown}: is of another commit than its run", _AGAIN)
    # A plan that fails says why; one that says nothing wrong has not failed by itself.
    if run.failed and not proposal.problems:
        return failed(run.commit, page)
    return rendering.comment(proposal)


def failed(commit: str, page: str, error: SlmcompileError | None = None) -> str:
    """The comment where there is no plan to show."""
    why = code(printable(error.what)) if error else "its run failed"
    log = f" [Its log]({page}) says more." if page else ""
    return (
        f"{rendering.MARKER}\n\n## slmcompile plan\n\n"
        f"<code>{commit[:12]}</code> could not be planned: {why}.{log}\n\n"
        "Nothing can be approved before there is a plan.\n"
    )
