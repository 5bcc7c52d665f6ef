"""Checks 32 and 33: git leaves to DVC what is DVC's, and keeps what DVC reads."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.console.errors import CorruptError, Exit, MissingError, RefusedError
from slmcompile.facts.context import CheckContext
from slmcompile.files.revision import ignored, in_git, tracked

_GIT_FAILS = (CorruptError, MissingError, RefusedError)


@check(
    32,
    "pipelines-not-ignored",
    "DVC stops at a pipeline file that git ignores, after stages have run",
    code=Exit.MISSING,
)
def pipelines_not_ignored(context: CheckContext) -> Verdict:
    """No pattern, the user's own neither, takes in a ``dvc.yaml`` or ``dvc.lock`` of the plan."""
    if context.untouched or not in_git(context.project.root):
        return proved(_nothing(context))
    names = [pipeline.name for pipeline in context.compiled.pipelines]
    paths = [f"pipelines/{name}/dvc.{kind}" for name in names for kind in ("yaml", "lock")]
    paths.append("dvc.yaml")
    try:
        found = ignored(context.project.root, paths)
    except _GIT_FAILS as error:
        return needs_probe(context.base_stage, f"git cannot say what it ignores ({error.what})")
    for path, where in found.items():
        lines = ["`!/dvc.yaml`"] if "dvc.yaml" in found else []
        # Both: a pattern takes in nothing below a folder that is ignored.
        lines += ["`!/pipelines/`", "`!/pipelines/**`"] if found.keys() - {"dvc.yaml"} else []
        return refuted(
            f"git ignores {path}, which DVC then refuses",
            f"remove that line, or end .gitignore with the lines {', '.join(lines)}",
            where,
        )
    return proved(f"git ignores none of {len(paths)} pipeline files")


@check(
    33,
    "outputs-not-tracked",
    "DVC refuses to write an output that git tracks, after other stages have run",
    code=Exit.MISSING,
)
def outputs_not_tracked(context: CheckContext) -> Verdict:
    """Git's index has no file in a folder that a stage of the plan writes."""
    if context.untouched or not in_git(context.project.root):
        return proved(_nothing(context))
    folders = [stage.out for stage in context.compiled.stages()]
    try:
        found = tracked(context.project.root, folders)
    except _GIT_FAILS as error:
        return needs_probe(context.base_stage, f"git cannot say what it tracks ({error.what})")
    if found:
        return refuted(
            f"git tracks {found[0]}, an output, which DVC then refuses to write",
            f"git rm -r --cached {' '.join(found)} (the files stay), and commit",
        )
    return proved(f"git tracks none of {len(folders)} outputs")


def _nothing(context: CheckContext) -> str:
    return "nothing is left to do" if context.untouched else "not under git yet"
