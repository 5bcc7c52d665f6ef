"""Rules over train, validation and test together: is what is measured worth believing?"""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext

LEAKED = 0.01
"""Share of a split's rows whose prompt stands in another. They can move a metric by as much as
their share, so up to here it is right to a point; beyond, what is measured is memory."""

_PAIRS = (("validation", "train"), ("test", "train"), ("test", "validation"))
"""Splits that are measured, each with one that training learns from or chooses its weights by."""


@check(
    14,
    "no-leak",
    "test prompts that were trained on, or chosen by: the metric measures memory",
    needs=("D",),
    code=Exit.BAD_DATA,
)
def no_leak(context: CheckContext) -> Verdict:
    """At most one per cent of validation or test has a prompt that is in another split."""
    if context.data is None:
        return needs_rows(context)
    rows, facts = context.data.rows, context.data.facts
    for inner, outer in _PAIRS:
        pair = f"{inner}_in_{outer}"
        exact, near = facts.leaks_exact[pair], facts.leaks_normalised[pair]
        if near > LEAKED * rows[inner]:
            return refuted(
                f"{near} of {rows[inner]} {inner} prompts stand in {outer}"
                f" ({exact} to the letter, the others but for case, spacing or punctuation)",
                f"take them out of {outer}, or give one file and let data.split divide it",
                context.at(context.recipe.data.source_key),
            )
    leaked = sum(facts.leaks_normalised.values())
    seen = f"{leaked} prompts" if leaked else "no prompt"
    return proved(f"{seen} of validation or test in another split, up to case and punctuation")


@check(
    22,
    "labels-covered",
    "a label is measured that was never trained, or too rare to stand in every split",
    needs=("D",),
    code=Exit.BAD_DATA,
)
def labels_covered(context: CheckContext) -> Verdict:
    """Labels of validation and test are trained; a stratified split can spread its strata."""
    if context.data is None:
        return needs_rows(context)
    facts = context.data.facts
    strata = facts.strata
    if strata is not None and strata.prompts < strata.splits:
        return refuted(
            f"{strata.name!r} has {strata.prompts} different prompts for {strata.splits} splits",
            "add rows of it, join it with another, or use data.split.strategy=random",
            context.at("data.split.strategy"),
        )
    if facts.never_trained:
        label, rows = next(iter(facts.never_trained.items()))
        others = len(facts.never_trained) - 1
        return refuted(
            f"the label {label!r} ({rows} rows of validation and test) is never trained"
            + (f", nor are {others} others" if others else ""),
            "add rows of it to train, take it out, or set data.split.strategy=stratified",
            context.at("data.split" if context.recipe.data.label is None else "data.label"),
        )
    spread = f"; smallest stratum {strata.name!r}: {strata.prompts} prompts" if strata else ""
    return proved(f"every label of validation and test is trained{spread}")
