"""Check 1: no key of a recipe is unknown and none is without effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.plans.definition import Plan, Stage

_READERS: tuple[tuple[str, str, str], ...] = (
    ("model.source", "base", "source"),
    ("data", "data", ""),
    ("train", "train", ""),
    ("eval", "evaluate-torch", ""),
    ("target.*", "export-*", "target"),
    ("gates", "gate", "gates"),
)
"""Section of a recipe, the stage that reads it, and where in that stage's ``config``. The check
and report stages hold the whole recipe, so they prove nothing."""

_STAGES = {"eval.base_model": "evaluate-base", "eval.baselines": "evaluate-baselines"}
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
    for key, is_cosmetic in leaves(context.recipe):
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


def leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted key of every leaf below a section, and whether it is cosmetic."""
    for name, field in type(section).model_fields.items():
        value, path = getattr(section, name), f"{prefix}{name}"
        # A section leaves out keys that another key rules out (train.lora in a full fine-tuning).
        if value is None and name not in section.model_dump(include={name}):
            continue
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{path}.")
        elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
            for key, below in value.items():
                yield from leaves(below, f"{path}.{key}.")
        else:
            extra = field.json_schema_extra
            yield path, isinstance(extra, dict) and bool(extra.get("cosmetic"))


def _reaches(plan: Plan, stages: Mapping[str, Stage], key: str) -> bool:
    if key in _STAGES:
        section, _, name = key.rpartition(".")
        return bool(plan.effective[section][name]) == (_STAGES[key] in stages)
    for section, stage_name, place in _READERS:
        rest, filled = _below(key, section)
        if rest is None:
            continue
        stage = stages.get(stage_name.replace("*", filled))
        path = ".".join(part for part in (place, rest) if part)
        if stage is not None and _holds(stage.config, path):
            return True
    return False


def _below(key: str, section: str) -> tuple[str | None, str]:
    """What is left of ``key`` below ``section``, and what stands for its star."""
    parts, pattern = key.split("."), section.split(".")
    filled = ""
    for part, wanted in zip(parts, pattern, strict=False):
        if wanted == "*":
            filled = part
        elif part != wanted:
            return None, ""
    return (".".join(parts[len(pattern) :]), filled) if len(parts) >= len(pattern) else (None, "")


def _holds(config: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True
