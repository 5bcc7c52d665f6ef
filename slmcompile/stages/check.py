"""``check``: the rules that had to wait for the base model and the rows, before training.

The working tree's policy is one of its files, so that another policy judges anew. The machine is
no input: it decides whether the stage passes and nothing of what it writes, and who plans or runs
on another one is judged by that one before anything runs.
"""

from __future__ import annotations

from collections import Counter

from slmcompile.base.facts import read_model_facts
from slmcompile.checks.judge import judge, probes, refusal, sentence
from slmcompile.console.errors import CorruptError
from slmcompile.data.report_facts import read_data_facts
from slmcompile.facts.context import CheckContext
from slmcompile.facts.gather import recipe_of
from slmcompile.files.artifact import write_text
from slmcompile.machine.device import detect, stated
from slmcompile.recipe.policy import load_policy
from slmcompile.recipe.project import Project
from slmcompile.stages.context import Context, Result


def run(context: Context) -> Result:
    """Passes or fails; its output is constant, so that passing again retrains nothing."""
    base, data = context.inputs["base"], context.inputs["data"]
    name = context.stage.split("/")[0]
    memory = context.runtime.get("device", {}).get("memory_gb")
    project = Project(context.project)
    model, rows = read_model_facts(base, base.name), read_data_facts(data)
    for facts, file in ((model, base / "config.json"), (rows, data / "data_report.json")):
        # While planning, rules pass over what is not known yet. Here all of it has to be.
        if facts is None:
            raise CorruptError(
                f"{project.shown(file)}: not as its stage writes it, so no rule can judge it",
                "remove its folder and run the recipe again",
            )
    findings = judge(
        CheckContext(
            project=project,
            name=name,
            recipe=recipe_of(context.config["recipe"]),
            device=stated(detect(context.project), memory),
            model=model,
            data=rows,
            policy=load_policy(project),
        ),
        probes(),
    )
    for finding in findings:
        if finding.verdict.outcome == "refuted":
            word = "warning" if finding.check.warning else "refuted"
            context.progress.say(f"{word}: {sentence(finding)}")
        if finding.verdict.outcome == "needs_probe":
            context.progress.say(f"not decided: {finding.check.name}: {finding.verdict.evidence}")
    error = refusal(findings)
    if error is not None:
        raise error
    count = Counter(finding.verdict.outcome for finding in findings)
    undecided = f", {count['needs_probe']} not decided" if count["needs_probe"] else ""
    context.progress.say(f"{count['proved']} of {len(findings)} checks proved{undecided}")
    # Never how many: training comes after these bytes, and would begin anew for other ones.
    write_text(context.out / "passed", "all checks passed\n")
    return Result()
