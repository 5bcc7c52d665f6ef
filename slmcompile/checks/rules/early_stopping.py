"""Check 40: patience that can be used up before training is over anyway."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.estimate.steps import plan_steps
from slmcompile.facts.context import CheckContext
from slmcompile.methods.early_stopping import best_by


@check(
    40,
    "early-stopping-can-stop",
    "early stopping that can never happen: training goes to its end, and somebody relies on it",
    needs=("C", "D"),
    warning=True,
)
def early_stopping_can_stop(context: CheckContext) -> Verdict:
    """Only a warning: a short trial of a recipe that stops early is no mistake.

    The first validation is never worse than one before it, and to stop at the last step is no stop.
    """
    train = context.recipe.train
    if train.early_stopping_patience is None:
        return proved("no early stopping")
    if train.max_steps > 0:
        steps = train.max_steps
    elif context.data is not None and context.data.rows.get("train"):
        steps = plan_steps(train, context.data.rows["train"]).max_steps
    else:
        return needs_probe(context.data_stage, "how many steps and validations there are")
    patience, before = train.early_stopping_patience, (steps - 1) // train.eval_steps
    if not best_by(train).can_stop(steps, train.eval_steps):
        return refuted(
            f"{before} validation{'' if before == 1 else 's'} before the last of {steps} steps, and"
            f" patience for {patience} without a better one: training never stops early",
            "lower train.early_stopping_patience or train.eval_steps, or train longer",
            context.at("train.early_stopping_patience"),
        )
    return proved(f"patience for {patience} of {before} validations before the last step")
