"""Check 19: a stage's key covers all that its result depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS
from slmcompile.registry.scalars import SHA256_PATTERN


@check(
    19,
    "stage-key-complete",
    "a cache answers with the result of another configuration, other rows or other code",
    code=Exit.BUG,
    of_plan=True,
)
def stage_key_complete(context: CheckContext) -> Verdict:
    """Of every stage: configuration, code epoch, packages, bytes read, and the same for its inputs.

    The tokenizer is part of the base model's folder, so every stage behind base depends on it.
    DVC keeps its own key: it watches the spec file, the files and the input folders.
    """
    plan = context.compiled
    stages = {stage.address: stage for stage in plan.stages()}
    above: dict[str, frozenset[str]] = {}
    for stage in stages.values():
        # Every stage stands behind its inputs.
        inputs = [stages[address] for address in stage.input_stages.values() if address in above]
        above[stage.address] = frozenset().union(
            *({each.kind} | above[each.address] for each in inputs)
        )
        for what in _missing(plan, stages, stage, above[stage.address]):
            return refuted(
                f"{stage.address}: its key does not cover {what}",
                "report this; it is a fault of slmcompile and not of the recipe",
            )
    packages = {name for stage in stages.values() for name in stage.packages}
    return proved(
        f"{len(stages)} stages: configuration, code epoch, {len(packages)} packages,"
        f" {len(plan.files)} hashed files; each reaches the base model and the rows"
    )


def _missing(
    plan: Plan, stages: dict[str, Stage], stage: Stage, above: frozenset[str]
) -> Iterator[str]:
    """What a stage's result depends on and neither our key nor DVC's holds.

    ``above`` are the kinds of all stages whose fingerprints are part of this one's.
    """
    if KINDS[stage.kind].computes and not stage.packages:
        yield "the packages that it computes with"
    for path in stage.files:
        if not re.fullmatch(SHA256_PATTERN, plan.files.get(path, "")):
            yield f"the bytes of {path}"
    for path in sorted({stage.spec_path, *stage.files, *stage.inputs.values()} - {*stage.deps}):
        yield f"{path}, which DVC does not watch"
    for role, path in stage.inputs.items():
        maker = stages.get(stage.input_stages.get(role, ""))
        # Of what is trained for several adapters, one is a part.
        if maker is None or not f"{path}/".startswith(tuple(f"{out}/" for out in maker.outs)):
            yield f"its input {role}"
    for kind in sorted(KINDS[stage.kind].behind - above):
        yield f"what the {kind} stage makes"
