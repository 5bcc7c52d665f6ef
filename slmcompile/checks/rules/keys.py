"""Check 1: no key of a recipe is unknown and none is without effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.kinds import KINDS

_STAGES = {"eval.base_model": "answer-base", "eval.baselines": "answer-baselines"}
"""Keys that are no stage's config because they say whether that stage is there at all."""


@check(
    1,
    "closed-schema",
    "a misspelt key, or one that nothing reads, is dropped in silence and the run goes on without",
    of_plan=True,
)
def closed_schema(context: CheckContext) -> Verdict:
    """Every leaf of the recipe is in the spec of a stage that computes, or declared cosmetic.

    That no key is unknown is what composing has proved: every section of the schema is closed.
    """
    plan = context.compiled
    stages = {stage.name: stage for stage in plan.stages()}
    read = cosmetic = 0
    for key, is_cosmetic in leaves(context.recipe, plan.effective):
        if is_cosmetic:
            cosmetic += 1
        elif _reaches(plan, stages, key):
            read += 1
        else:
            return refuted(
                f"{key} reaches no stage: whatever its value, nothing changes",
                "report this; it is a fault of slmcompile and not of the recipe",
                context.at(key),
                Exit.BUG,
            )
    files = len(plan.own.sources)
    return proved(
        f"{read + cosmetic} keys of {files} files, all known: {read} read by a stage,"
        f" {cosmetic} cosmetic"
    )


def leaves(
    section: BaseModel, values: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, bool]]:
    """Dotted key of every leaf below a section, and whether it is cosmetic.

    ``values`` are its JSON values, of which it leaves out what another key rules out, and some that
    say nothing when empty.
    """
    for name, field in type(section).model_fields.items():
        value, path = getattr(section, name), f"{prefix}{name}"
        if value in (None, ()) and name not in values:
            continue
        if isinstance(value, BaseModel):
            yield from leaves(value, values[name], f"{path}.")
        elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
            for key, below in value.items():
                yield from leaves(below, values[name][key], f"{path}.{key}.")
        else:
            extra = field.json_schema_extra
            yield path, isinstance(extra, dict) and bool(extra.get("cosmetic"))


def _reaches(plan: Plan, stages: Mapping[str, Stage], key: str) -> bool:
    if key in _STAGES:
        section, _, name = key.rpartition(".")
        return bool(plan.effective[section][name]) == (_STAGES[key] in stages)
    held: dict[str, list[bool]] = {}
    for stage in stages.values():
        places = list(_places(stage, key))
        if places and not KINDS[stage.kind].whole_recipe:
            found = any(_holds(stage.config, path) for path in places)
            held.setdefault(stage.kind, []).append(found)
    # A key that only some stages of a kind hold has fallen out of the others.
    return any(map(all, held.values()))


def _places(stage: Stage, key: str) -> Iterator[str]:
    """Where in a stage's config a recipe's key may lie."""
    for own, theirs in stage.reads.items():
        if key == theirs or not theirs or key.startswith(f"{theirs}."):
            rest = key.removeprefix(theirs).removeprefix(".")
            yield ".".join(part for part in (own, rest) if part)


def _holds(config: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True
