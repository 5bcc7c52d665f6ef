"""``ci``: what the jobs of a pull request call; ``docs/pull-requests.md`` has the flow."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from slmcompile.console.errors import Exit, SlmcompileError, UsageError
from slmcompile.console.terminal import print_json, tell


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
    proposal = propose(project, head, target)
    if arguments.out:
        to = Path(arguments.out)
        if to.suffix != ".json" or to.is_dir():
            raise UsageError(f"--out {to}: a proposal is JSON", "name a file that ends in .json")
        write_json(to, to_json(proposal))
        print(f"wrote {arguments.out}", file=sys.stderr)
    else:
        print_json(to_json(proposal))
    if proposal.problems:
        first = proposal.problems[0]
        return tell(SlmcompileError(first.what, first.hint, code=Exit(first.code)))
    return Exit.CHANGES if arguments.detailed_exitcode and proposal.recipes else Exit.DONE


def comment(arguments: Namespace) -> int:
    """Prints the comment of a proposal that anybody may have written, alone or in an archive."""
    from slmcompile.ci import archive
    from slmcompile.ci import comment as rendering
    from slmcompile.ci.proposal import LARGEST, read
    from slmcompile.files.safe_read import read_regular

    path = Path(arguments.file)
    packed = path.suffix == ".zip"
    largest = archive.LARGEST_ARCHIVE if packed else LARGEST
    data = read_regular(path.parent, path.name, path.as_posix(), largest)
    if data is None:
        raise UsageError(
            f"{path}: no such file", "write one with `slmcompile ci plan --against REF --out FILE`"
        )
    if packed:
        data = archive.document(data, path.as_posix())
    print(rendering.comment(read(data, path.as_posix())), end="")
    return Exit.DONE
