"""Check 21: every bar is on a metric that some stage measures, in the direction that is better."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.methods.early_stopping import LOSS, best_by
from slmcompile.metrics import METRICS
from slmcompile.plans.answered_validation import SECTION
from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.definition import Plan
from slmcompile.recipe.schema import Gate


@check(
    21,
    "gates-measurable",
    "a run ends at its gate for want of the metric, or passes a bar that nothing could miss",
    of_plan=True,
)
def gates_measurable(context: CheckContext) -> Verdict:
    """Each bar can be passed and can be missed.

    That a gate names a metric and an artifact of the recipe is proved where the plan is built.
    The weights that are kept, and whether training stops early, are decided by the validation loss,
    which the train stage always measures, or by a metric that it then measures too.
    """
    for index, gate in enumerate(context.recipe.gates):
        evidence, mend, key = _fault(context.plan, gate)
        if evidence:
            where = context.at(f"gates.{index}{key and '.'}{key}")
            return refuted(evidence, mend, where)
    train = context.recipe.train
    metric = train.metric_for_best_model
    if context.plan is not None and metric != LOSS and not _validated(context.plan):
        return refuted(
            f"training does not measure {metric}, which decides when it is at its best",
            "report this; it is a fault of slmcompile and not of the recipe",
            context.at("train.metric_for_best_model"),
            Exit.BUG,
        )
    by = best_by(train)
    best = f"the {'highest' if by.higher_is_better else 'lowest'} {by.words}"
    kept = f"that of {best}" if train.load_best_model_at_end else "the last"
    if by.patience is not None:
        kept += f", and it stops early by {best}"
    gates = [_shown(gate) for gate in context.recipe.gates]
    return proved(f"{', '.join(gates) or 'no gates'}; the model kept is {kept}")


def _validated(plan: Plan) -> bool:
    """Whether training is told how to answer its validation split."""
    return SECTION in plan.stage("train").config


def _fault(plan: Plan | None, gate: Gate) -> tuple[str, str, str]:
    """What is wrong with a gate, how to mend it and at which key; empty where nothing is."""
    if plan is not None and not (gate.source or _measured(plan, gate)):
        return (
            f"no stage measures {gate.metric} of {gate.artifact}",
            f"add {gate.metric} to eval.metrics",
            "metric",
        )
    metric = METRICS[gate.metric]
    higher, low, high = metric.higher_is_better, metric.low, metric.high
    span = f"{low:g} to {high:g}" if metric.bounded else f"{low:g} upwards"
    if not higher and gate.min is not None:
        return (f"lower {gate.metric} is better, so min is no bar", "write max", "min")
    if higher and gate.max is not None:
        return (f"higher {gate.metric} is better, so max is no bar", "write min", "max")
    if gate.min is not None and not low < gate.min <= high:
        can = "nothing passes" if gate.min > high else "nothing fails"
        return (f"{gate.metric} goes from {span}: {can} min {gate.min:g}", "mend the bar", "min")
    if gate.max is not None and not low <= gate.max < high:
        can = "nothing passes" if gate.max < low else "nothing fails"
        return (f"{gate.metric} goes from {span}: {can} max {gate.max:g}", "mend the bar", "max")
    if gate.max_drop is not None and gate.max_drop >= high - low:
        return (
            f"{gate.metric} goes from {span}: nothing drops by more than {gate.max_drop:g}",
            "give max_drop in the metric's own unit: three points are 0.03",
            "max_drop",
        )
    return ("", "", "")


def _measured(plan: Plan, gate: Gate) -> bool:
    """Whether the plan asks a gate's artifacts, and scores its metric."""
    wanted = {gate.artifact} | ({TUNED} if gate.max_drop is not None else set())
    if not wanted <= {stage.artifact for stage in plan.of("answer")}:
        return False
    return any(
        gate.metric in stage.config["metrics"]
        or METRICS[gate.metric].always_of(stage.config["task"])
        for stage in plan.of("score")
    )


def _shown(gate: Gate) -> str:
    way = "higher" if METRICS[gate.metric].higher_is_better else "lower"
    of = f" on {gate.source}" if gate.source else ""
    return f"{gate.metric} of {gate.artifact}{of} ({way} is better)"
