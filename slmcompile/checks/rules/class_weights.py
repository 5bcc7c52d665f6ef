"""The rule over ``train.loss.class_weights``: what they weigh is there."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import Exit
from slmcompile.console.printable import shortened
from slmcompile.data.report_facts import LABELS_COUNTED
from slmcompile.facts.context import CheckContext
from slmcompile.losses.keys import WeightedKeys
from slmcompile.recipe.project import nearest

_SHOWN = 20


@check(
    39,
    "class-weights-met",
    "a weight is given to a label that no row has, and the rows that were meant count as any other",
    needs=("C", "D"),
    code=Exit.BAD_DATA,
)
def class_weights_met(context: CheckContext) -> Verdict:
    """The task has labels, and each that is weighed is one of some row that is trained."""
    loss, data = context.recipe.train.loss, context.recipe.data
    weights = loss.class_weights if isinstance(loss, WeightedKeys) else {}
    where = context.at("train.loss.class_weights")
    if not weights:
        return proved("no label is weighed")
    if not data.labelled:
        return refuted(
            f"the task {data.task} has no labels to weigh",
            "name the key of the answers that is the label, data.label=KEY, or take them out",
            where,
            Exit.BAD_RECIPE,
        )
    if context.data is None:
        return needs_rows(context)
    rows = context.data.report.get("labels", {}).get("train", {})
    for label in weights:
        # The report lists the most frequent of very many labels; training knows them all.
        if not rows.get(label) and len(rows) < LABELS_COUNTED:
            trained = [each for each in rows if rows[each]]
            return refuted(
                f"no row of the train split has the label {shortened(label)!r}",
                nearest("its labels:", label, [shortened(each, 40) for each in trained[:_SHOWN]]),
                where,
            )
    told = (f"{shortened(label, 40)} ({rows[label]} rows)" for label in weights if label in rows)
    return proved(f"weighed: {', '.join(list(told)[:_SHOWN])}")
