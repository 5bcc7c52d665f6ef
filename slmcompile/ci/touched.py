"""What a pull request must not change beside a recipe, if it is to be trained.

None of these files is in the tree of a run; but a merge would bring them to the target, with what
an approver of a training has not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from slmcompile.ci.proposal import Problem
from slmcompile.console.errors import Exit, RefusedError
from slmcompile.console.printable import printable, shortened
from slmcompile.files.revision import Revision, changed_paths, prefix, read_blob
from slmcompile.plans.definition import Pipeline, Plan
from slmcompile.recipe.policy import FILE as POLICY
from slmcompile.state.emit import dvc_yaml, dvc_yaml_path
from slmcompile.state.state import parse_stage

_Pipelines = Mapping[str, Pipeline]
"""By the path of their ``dvc.yaml``."""

_MOST_TOLD = 50
_LARGEST = 1 << 20
_ANYWHERE = (
    (r"(^|/)\.(github|gitlab|gitea|forgejo)/|(^|/)\.gitlab-ci\.yml$", "what runs in CI"),
    (r"(^|/)\.(gitattributes|gitmodules|lfsconfig)$", "what git does with files"),
    (r"(^|/)\.dvc/|(^|/)\.dvcignore$", "DVC's settings"),
)
_OF_THE_PROJECT = (
    (rf"^{re.escape(POLICY.rpartition('/')[0])}/", "the policy"),
    (r"^(outputs|\.slmcompile)/", "what runs write"),
    # What measures is the target's.
    (r"^plugins/", "a plug-in"),
)
_OF_DVC = re.compile(r"(^|/)dvc\.(yaml|lock)$|\.dvc$", re.IGNORECASE)
_GENERATED = re.compile(r"pipelines/[a-z0-9][a-z0-9_-]*/dvc\.yaml")


def refused(base: Revision, head: Revision, plans: Iterable[Plan]) -> tuple[Problem, ...]:
    """A problem for each file that differs and has to come by a pull request of its own.

    Args:
        base: what is compared with.
        head: what is proposed.
        plans: of all recipes of the head, whose pipelines may be generated.
    """
    pipelines = {dvc_yaml_path(each.name): each for plan in plans for each in plan.pipelines}
    found = list(_found(base, head, pipelines))
    told = found[:_MOST_TOLD]
    if len(found) > len(told):
        more = f"{len(found) - len(told)} more files of these kinds"
        told.append(Problem(more, _MEND, int(Exit.REFUSED)))
    return tuple(told)


_MEND = "bring it by a pull request of its own"


def _found(base: Revision, head: Revision, pipelines: _Pipelines) -> Iterator[Problem]:
    above = prefix(head.root)
    for path in changed_paths(base, head):
        inside = path.removeprefix(above) if path.startswith(above) else None
        why = _why(path, inside)
        if why:
            yield _problem(path, f"{why} changes beside recipes", _MEND)
        elif inside is not None and _OF_DVC.search(inside):
            yield from _of_dvc(head, inside, pipelines)


def _why(path: str, inside: str | None) -> str:
    for pattern, why in _ANYWHERE:
        if re.search(pattern, path, re.IGNORECASE):  # a file system may not tell them apart
            return why
    for pattern, why in _OF_THE_PROJECT:
        if inside is not None and re.search(pattern, inside, re.IGNORECASE):
            return why
    return ""


def _of_dvc(head: Revision, path: str, pipelines: _Pipelines) -> Iterator[Problem]:
    """What DVC would run: it reads every ``dvc.yaml`` and every pointer that lies in a tree."""
    try:
        entry = head.file(path)
    except RefusedError as error:
        yield _problem(path, "is not a regular file", error.mend)
        return
    if entry is None or (path.startswith("pipelines/") and path.endswith("/dvc.lock")):
        return  # it is gone, or is written anew by a run
    small = 0 <= entry.size <= _LARGEST
    data = read_blob(head.root, entry.blob) if small else b""
    if path.endswith(".dvc"):
        pointer = parse_stage(data) if small else None
        if pointer is None or pointer.command or pointer.deps:
            yield _problem(path, "is more than DVC's pointer to a file", "track it by `dvc add`")
    elif path not in pipelines or data != dvc_yaml(pipelines[path]).encode():
        which = "the generated one" if _GENERATED.fullmatch(path) else "generated"
        yield _problem(path, f"is not {which}, and DVC runs its cmd", "run `slmcompile sync --all`")


def _problem(path: str, what: str, hint: str) -> Problem:
    return Problem(f"{shortened(printable(path), 300)}: {what}", hint, int(Exit.REFUSED))
