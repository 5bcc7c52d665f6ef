"""An explanation as text for a person."""

from __future__ import annotations

import shlex

from slmcompile.console.printable import printable
from slmcompile.execution.last_overrides import without_last
from slmcompile.explain.why import Explanation, LastRun, RootCause
from slmcompile.state.short_values import short

_WILL = {
    "run": "will run",
    "restore": "will be restored from the cache (nothing runs)",
    "unchanged": "is unchanged",
}


def explain_text(explanation: Explanation, *, relock: bool = False) -> str:
    """Root causes with their chains and what would take them back; or what it last ran from.

    ``relock`` says that a run is refused until its lock takes what is found.
    """
    plan, stage = explanation.plan, explanation.stage
    subject = stage.address if stage else plan.recipe
    if explanation.action == "unchanged":
        head = f"{subject} {_WILL['unchanged']}"
        if explanation.last_run is None:
            return f"{head}: nothing would run."
        return "\n".join([f"{head}. It last ran from", *_last(explanation.last_run)])
    lines = [f"{subject} {_WILL[explanation.action]}, because"]
    for causes in _grouped(explanation.causes):
        lines.append("")
        if len(causes) == 1:
            lines += _cause(causes[0], whole=stage is None)
        else:
            lines += _absent(causes, plan.recipe)
    again = f"slmcompile run {shlex.join([plan.recipe, *plan.overrides])}"
    lines += ["", f"or accept it: {'slmcompile lock --upgrade && ' if relock else ''}{again}"]
    lines += without_last(explanation.last_overrides, plan.overrides)
    return "\n".join(printable(line) for line in lines)


def _cause(cause: RootCause, *, whole: bool) -> list[str]:
    where = cause.reason.where
    key = cause.reason.cause == "key" and cause.reason.subject and not cause.reason.adapter
    if key and not where:
        where = "default; no file sets it"
    lines = [f"  {sentence(cause)}{f'   {where}' if where else ''}"]
    if whole:
        reached = (address.rpartition("/")[2] for address in cause.reaches)
        lines.append(f"    reaches {', '.join(reached)}")
    else:
        lines.append(f"    {' → '.join(cause.stages)}")
    lines.append(f"    {'mend' if cause.reason.cause == 'failed' else 'not to run'}: {cause.undo}")
    return lines


def _grouped(causes: tuple[RootCause, ...]) -> list[list[RootCause]]:
    """What is not there in one group a kind, as a fresh clone has none of it."""
    groups: dict[object, list[RootCause]] = {}
    for index, cause in enumerate(causes):
        absent = cause.reason.cause in {"output", "cache", "first_run"}
        groups.setdefault(cause.reason.cause if absent else index, []).append(cause)
    return list(groups.values())


def _absent(causes: list[RootCause], recipe: str) -> list[str]:
    if causes[0].reason.cause == "first_run":
        stages = ", ".join(cause.stages[0].rpartition("/")[2] for cause in causes)
        return [
            f"  {len(causes)} stages have not run here: {stages}",
            f"    not to run: {causes[0].undo}",
        ]
    outputs = ", ".join(str(cause.reason.subject) for cause in causes)
    if causes[0].reason.cause == "cache":
        commit = f"`dvc commit -f --with-deps pipelines/{recipe}/dvc.yaml`"
        return [
            f"  {len(causes)} outputs are here, their cache objects missing: {outputs}",
            f"    not to run: {commit} keeps what is here",
        ]
    pull = f"`dvc pull --with-deps pipelines/{recipe}/dvc.yaml`"
    return [
        f"  {len(causes)} outputs are missing here: {outputs}",
        f"    not to run: {pull}, if somebody pushed them",
    ]


def sentence(cause: RootCause) -> str:
    """A cause with its old and new value or hash."""
    reason = cause.reason
    match reason.cause:
        case "file":
            pair = f"MD5 {reason.old or 'none'} → {reason.new or 'none'}"
            return f"{reason.subject}{reason.of_source} changed: {pair}"
        case "input":
            old, new = short(reason.old or "none"), short(reason.new or "none")
            return f"{reason.subject} was made anew since: MD5 {old} → {new}"
        case "failed" | "first_run" | "command":
            return f"{cause.stages[0]}: {reason.sentence()}"
        case "key" if not reason.subject:
            return f"{cause.stages[0]}: {reason.sentence()}"
        case _:
            return reason.sentence()


def _last(run: LastRun) -> list[str]:
    lines = [f"  spec      MD5 {run.spec}"]
    if run.packages:
        listed = ", ".join(f"{name} {version}" for name, version in sorted(run.packages.items()))
        lines.append(f"  packages  {listed}")
    lines += [f"  read      {path}  MD5 {md5}" for path, md5 in run.inputs.items()]
    lines += [f"  wrote     {path}  MD5 {md5}" for path, md5 in run.outs.items()]
    if run.seconds is not None:
        lines.append(f"  took      {run.seconds:g} s here")
    return lines
