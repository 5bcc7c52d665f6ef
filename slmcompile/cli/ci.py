"""``ci``: what the jobs of a pull request call; ``docs/pull-requests.md`` has the flow."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from slmcompile.ci.outputs import disarmed, disarmed_error, disarmed_json, write_outputs
from slmcompile.cli import ci_jobs
from slmcompile.console.errors import Exit, SlmcompileError, StaleError, UsageError
from slmcompile.console.terminal import tell


def run(arguments: Namespace) -> int:
    """Does a job; what it says of errors is no command to the runner that sees it pass."""
    jobs = {
        "plan": plan,
        "comment": comment,
        "authorise": authorise,
        "answer": ci_jobs.answer,
        "train": ci_jobs.train,
        "push": ci_jobs.push,
        "promote": ci_jobs.promote,
        "drift": drift,
    }
    try:
        return jobs[arguments.job](arguments)
    except SlmcompileError as error:
        raise disarmed_error(error) from error


def plan(arguments: Namespace) -> int:
    """Makes the proposal of a pull request, and tells the first thing that keeps it from training.

    The document is written before that is told, for the comment to say it.
    """
    from slmcompile.ci.proposal import to_json
    from slmcompile.ci.propose import propose
    from slmcompile.files.artifact import write_json
    from slmcompile.files.revision import resolve
    from slmcompile.recipe.project import find_project

    project = find_project()
    head, target = (resolve(project.root, name) for name in (arguments.head, arguments.against))
    queued = os.environ.get("GITHUB_EVENT_NAME") == "merge_group"
    proposal = propose(project, head, target, queued=queued)
    if arguments.out:
        to = Path(arguments.out)
        if to.suffix != ".json" or to.is_dir():
            raise UsageError(f"--out {to}: a proposal is JSON", "name a file that ends in .json")
        write_json(to, to_json(proposal))
        print(f"wrote {arguments.out}", file=sys.stderr)
    else:
        print(disarmed_json(to_json(proposal)))
    if proposal.problems:
        first = proposal.problems[0]
        problem = SlmcompileError(first.what, first.hint, code=Exit(first.code))
        return tell(disarmed_error(problem))
    untrained = [each.recipe for each in proposal.forecast if not each.stated]
    if untrained and queued:
        # A merge queue's commit is merged as it is, so that all of it has to be there already.
        raise StaleError(
            f"{', '.join(untrained)}: what would be merged is not what was trained",
            "have the pull request follow the target, plan and train anew",
        )
    return Exit.CHANGES if arguments.detailed_exitcode and proposal.recipes else Exit.DONE


def comment(arguments: Namespace) -> int:
    """Prints or posts the comment of a proposal that anybody may have written.

    Of a file, alone or in an archive; without one, of what the run of the event has uploaded.
    """
    if arguments.post:
        return _post(arguments)
    from slmcompile.ci import archive
    from slmcompile.ci import comment as rendering
    from slmcompile.ci.proposal import read

    if not arguments.file:
        raise UsageError("ci comment: a file to print is missing", "name one, or use --post")
    path = Path(arguments.file)
    data = _read(path)
    if path.suffix == ".zip":
        data = archive.document(data, path.as_posix())
    print(rendering.comment(read(data, path.as_posix())), end="")
    return Exit.DONE


def _read(path: Path) -> bytes:
    from slmcompile.ci.archive import LARGEST_ARCHIVE
    from slmcompile.ci.proposal import LARGEST
    from slmcompile.files.safe_read import read_regular

    largest = LARGEST_ARCHIVE if path.suffix == ".zip" else LARGEST
    data = read_regular(path.parent, path.name, path.as_posix(), largest)
    if data is None:
        raise UsageError(
            f"{path}: no such file", "write one with `slmcompile ci plan --against REF --out FILE`"
        )
    return data


def _post(arguments: Namespace) -> int:
    from slmcompile.ci.connect import connect
    from slmcompile.ci.event import plan_run, read_event, run_page
    from slmcompile.ci.posting import post_plan

    run = plan_run(read_event(os.environ, "workflow_run"))
    if run is None:
        print("nothing to say: no plan of a pull request has ended", file=sys.stderr)
        return Exit.DONE
    path = Path(arguments.file) if arguments.file else None
    if path and path.suffix != ".zip":
        raise UsageError(f"{path}: is no archive", "post what the run has uploaded, a .zip")
    shown = path.as_posix() if path else f"artifact of run {run.number}"
    page = run_page(os.environ, run.number)
    posted = post_plan(run, connect(os.environ), _read(path) if path else None, shown, page)
    if posted is None:
        print(f"nothing said: no open pull request is at {run.commit[:10]}", file=sys.stderr)
    else:
        print(f"said in #{posted}", file=sys.stderr)
    return Exit.DONE


def authorise(arguments: Namespace) -> int:
    """Whether the comment of the event approves of a training, and of which.

    What is refused is an output, too: this job may not write, and the last one answers.
    """
    from slmcompile.ci.authorise import asked
    from slmcompile.ci.event import read_event

    ask = asked(read_event(os.environ, "issue_comment"))
    if ask is None:
        write_outputs(os.environ, asked=False)
        return Exit.DONE
    from slmcompile.ci.connect import connect
    from slmcompile.ci.derived import approved
    from slmcompile.files.revision import resolve
    from slmcompile.recipe.project import find_project

    try:
        project = find_project()
        target = resolve(project.root, arguments.against)
        found = approved(ask, connect(os.environ), project, target)
    except SlmcompileError as error:
        write_outputs(os.environ, asked=False, number=ask.number, refused=_refusal(error))
        raise
    head, digest = found.proposal.head, found.proposal.digest
    write_outputs(os.environ, asked=True, number=ask.number, head=head, digest=digest)
    return Exit.DONE


def _refusal(error: SlmcompileError) -> str:
    return f"{error.what}; {error.mend}" if error.mend else error.what


def drift(arguments: Namespace) -> int:
    """Says in one issue what is no longer as committed, and on standard output too.

    A job's checkout has no outputs, so that they are not here is nothing to tell; that the remote
    lacks them is.
    """
    from slmcompile.ci.connect import connect
    from slmcompile.ci.drift_issue import settle
    from slmcompile.drift.look import drift as look
    from slmcompile.recipe.project import find_project

    every = look(find_project(), remote=arguments.remote, upstream=True)
    found = [each for each in every if each.kind != "cache"]
    for each in found:
        print(disarmed(each.line()))
    print(f"issue: {settle(connect(os.environ), found)}", file=sys.stderr)
    return Exit.CHANGES if found else Exit.DONE
