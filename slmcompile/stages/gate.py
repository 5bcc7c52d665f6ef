"""``gate``: the recipe's bars against what was measured; exit 3 where one is missed."""

from __future__ import annotations

from slmcompile.console.errors import GateFailedError
from slmcompile.files.artifact import write_text
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.gates import judge
from slmcompile.stages.context import Context, Result
from slmcompile.stages.scores import read_comparisons, read_metrics


def run(context: Context) -> Result:
    """Passes or fails; its output is constant, so that only its existence says something."""
    gates = [Gate(**gate) for gate in context.config["gates"]]
    scored = context.inputs["score"]
    verdicts = judge(gates, read_metrics(scored), read_comparisons(scored))
    for verdict in verdicts:
        context.progress.say(f"gate {'passed' if verdict.passed else 'FAILED'}: {verdict.text}")
    failed = [verdict.text for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateFailedError(
            f"{len(failed)} of {len(verdicts)} gates failed: {'; '.join(failed)}",
            "everything was written; look at the report, then train better or lower the bar; one"
            " that the recipe does not have is of default_gates",
        )
    write_text(context.out / "passed", "all gates passed\n")
    return Result()
