"""Check 23: all that a recipe refers to stands for one thing only, and for the locked one."""

from __future__ import annotations

import re

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import CorruptError, Exit
from slmcompile.facts.context import CheckContext
from slmcompile.lock.file import lock_name, read_lock
from slmcompile.lock.references import Reference, references, short


@check(
    23,
    "pinned",
    "a branch that moves, or a file that was edited, gives another model from the same recipe",
    needs=("C",),
)
def pinned(context: CheckContext) -> Verdict:
    """Hub revisions are commits; what the recipe's lock holds is what is found.

    Local files need no lock: their hashes are in the plan's fingerprints.
    """
    try:
        lock = read_lock(context.project, context.name)
    except CorruptError as error:
        return refuted(error.what, error.mend, code=error.code)
    locked = dict(lock.entries) if lock else {}
    found = references(context.compiled)
    unlocked: list[Reference] = []
    for reference in found:
        key, now = ".".join(reference.origin), reference.found
        name = reference.key.partition(":")[2]
        if now is None:
            unlocked.append(reference)
        elif locked.get(reference.key, now) != now:
            return refuted(
                f"{name}: locked {short(locked[reference.key])}, found {short(now)}",
                "run `slmcompile lock --upgrade` to take it, or restore what was locked",
                context.at(key),
                Exit.STALE,
            )
    if unlocked and not context.policy.allow_unlocked:
        first = unlocked[0]
        name = first.key.partition(":")[2]
        return refuted(
            f"{name}: not a commit, and {lock_name(context.name)} has none for it",
            f"write the full 40-digit commit SHA, or {_how_to_lock(context, first)}",
            context.at(".".join(first.origin)),
        )
    return proved(_evidence(found, unlocked, locked, lock_name(context.name)))


def _how_to_lock(context: CheckContext, reference: Reference) -> str:
    """``lock`` reads recipes as they are written, without overrides."""
    section = reference.origin[0]
    overrides = context.plan.overrides if context.plan else ()
    if any(re.match(rf"[+~]*{section}\b", override) for override in overrides):
        return (
            "make a recipe of the overrides: `slmcompile run … --save-as NAME`, then"
            " `slmcompile lock NAME`"
        )
    return f"run `slmcompile lock {context.name}`"


def _evidence(
    found: tuple[Reference, ...], unlocked: list[Reference], locked: dict[str, str], name: str
) -> str:
    kinds = [(reference.found or "").partition(":")[0] for reference in found]
    parts = [
        f"{count} by {words}"
        for count, words in (
            (kinds.count("commit"), "commit"),
            (kinds.count("sha256"), "hash"),
            (len(unlocked), "branch, as the policy allows"),
        )
        if count
    ]
    held = sum(reference.key in locked for reference in found)
    return ", ".join(parts) + (f"; {held} held against {name}" if held else "")
