"""Check 1: no key of a recipe is unknown and none is without effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.methods.keys import SAID_IF_OTHER
from slmcompile.plans.artifacts import ASKED_BY
from slmcompile.plans.definition import Plan, Stage, stage_name
from slmcompile.plans.earlier import ROLE
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.kinds.quantize import BASE_ALONE, OVER
from slmcompile.recipe.continued import KEY
from slmcompile.registry.section import Section

_STAGES = {key: stage_name("answer", artifact) for artifact, key in ASKED_BY.items()}
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
    readers = _readers(plan.stages())
    read = cosmetic = 0
    for key, is_cosmetic in leaves(context.recipe, plan.effective):
        if is_cosmetic:
            cosmetic += 1
        elif _reaches(plan, readers, key):
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


_NAMES = {KEY: ROLE, "train.over": OVER}
"""Keys that name what is an input of training, and its role there."""

_WHERE_SET = frozenset(f"train.{key}" for key in SAID_IF_OTHER)
"""Keys that specs hold where they are not as ever."""


def leaves(
    section: Section, values: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, bool]]:
    """Dotted key of every leaf below a section, and whether it is cosmetic.

    ``values`` are its JSON values, of which it leaves out what another key rules out, and some that
    say nothing when empty.
    """
    for name, field in type(section).model_fields.items():
        value, path = getattr(section, name), f"{prefix}{name}"
        said = name in values or name not in section.said_if_other
        if not said or (name not in values and (value in (None, (), {}) or path in _WHERE_SET)):
            continue
        if isinstance(value, Section):
            yield from leaves(value, values[name], f"{path}.")
        elif isinstance(value, Mapping) and any(isinstance(v, Section) for v in value.values()):
            for key, below in value.items():
                yield from leaves(below, values[name][key], f"{path}.{key}.")
        else:
            extra = field.json_schema_extra
            yield path, isinstance(extra, dict) and bool(extra.get("cosmetic"))


def _readers(stages: Iterable[Stage]) -> dict[str, list[tuple[Stage, str]]]:
    """By a recipe's key: the stages that hold what lies there, and where in their config."""
    found: dict[str, list[tuple[Stage, str]]] = {}
    for stage in stages:
        if not KINDS[stage.kind].whole_recipe:
            for own, theirs in stage.reads.items():
                found.setdefault(theirs, []).append((stage, own))
    return found


def _reaches(plan: Plan, readers: Mapping[str, list[tuple[Stage, str]]], key: str) -> bool:
    if key == "train.together":
        # It decides whose stages there are, and is in the config of none. One that another recipe
        # trains may have its own either way.
        trains = [stage for stage in plan.own.stages if stage.kind == "train"]
        return plan.effective["train"].get("together", True) or all(each.member for each in trains)
    if key == "default_gates":
        # Said where there are none; what there are otherwise the gates say.
        return plan.effective[key] is False
    if key in _NAMES:
        # A name, which is in no config; what it names is an input.
        trains = [stage for stage in plan.own.stages if stage.kind == "train"]
        return all(_NAMES[key] in stage.inputs for stage in trains)
    if key.startswith("target.") and key.endswith(".train_over"):
        return any(OVER in stage.inputs for stage in plan.of("candidate"))
    if key.startswith("target.") and key.endswith(".adapters"):
        exports = [stage for stage in plan.of("export") if stage.artifact == key.split(".")[1]]
        beside = all(BASE_ALONE in stage.inputs for stage in exports)
        return beside or plan.effective["target"][exports[0].artifact]["adapters"] == "merged"
    if key in _STAGES:
        section, _, name = key.rpartition(".")
        made = any(stage.name == _STAGES[key] for stage in plan.stages())
        return bool(plan.effective[section][name]) == made
    held: dict[str, dict[str, bool]] = {}
    parts = key.split(".")
    for length in range(len(parts) + 1):
        for stage, own in readers.get(".".join(parts[:length]), ()):
            path = ".".join(part for part in (own, *parts[length:]) if part)
            of_kind = held.setdefault(stage.kind, {})
            of_kind[stage.address] = of_kind.get(stage.address, False) or _holds(stage.config, path)
    # A key that only some stages of a kind hold has fallen out of the others.
    return any(all(found.values()) for found in held.values())


def _holds(config: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True
