"""``--select``: which stages of a plan a person means, in dbt's graph syntax.

``train`` a stage or all of a kind · ``answer-*`` a pattern · ``+train`` and what it is made
from · ``train+`` and what is made from it · ``+train+`` both · ``2+train`` at most two steps away
· words apart: union · words joined by a comma: intersection. dbt's methods (``tag:``, ``state:``)
and its ``@`` are not taken: stages have no tags, and ``run`` passes over what did not change.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from slmcompile.console.errors import StaleError, UsageError
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import nearest
from slmcompile.state.changes import Change

_SYNTAX = "write a stage, a kind or a pattern (answer-*), alone or as +name, name+, 2+name"
_WORD = re.compile(r"(?:(?P<up>\d{0,9})\+)?(?P<name>[^+]+)(?:\+(?P<down>\d{0,9}))?")


def select(plan: Plan, selectors: Iterable[str]) -> tuple[Stage, ...]:
    """The stages that ``selectors`` name, in plan order.

    Raises:
        UsageError: a selector that names nothing, with the nearest name; none at all (exit 64).
    """
    words = " ".join(selectors).split()
    if not words:
        raise UsageError("--select '': selects nothing", f"{_SYNTAX}, or leave --select out")
    stages = tuple(plan.stages())
    above = {
        stage.address: {*stage.input_stages.values(), *stage.after.values()} for stage in stages
    }
    below: dict[str, set[str]] = {address: set() for address in above}
    for address, inputs in above.items():
        for made in inputs:
            below[made].add(address)
    chosen: set[str] = set()
    for word in words:
        sets = [_one(part, plan.recipe, stages, above, below) for part in word.split(",")]
        found = set.intersection(*sets)
        if not found:
            raise UsageError(
                f"--select {word!r}: no stage is in all of them",
                "a comma intersects; a space adds: " + shlex.quote(word.replace(",", " ")),
            )
        chosen |= found
    return tuple(stage for stage in stages if stage.address in chosen)


def with_needed(
    plan: Plan, changes: Iterable[Change], selected: Iterable[Stage]
) -> tuple[Stage, ...]:
    """The selected stages and what they need to begin, in plan order.

    An input that the cache holds is brought back, and the checks before training run. An input
    that would have to be made anew is not: a result on top of it would be out of date as it is
    written.

    Raises:
        StaleError: an input that is not selected would have to run first (exit 4).
    """
    stages = {stage.address: stage for stage in plan.stages()}
    actions = {change.stage.address: change.action for change in changes}
    wanted = {stage.address for stage in selected}
    # From the last stage to the first, so that what is brought back brings back its inputs too.
    for address in reversed(stages):
        stage = stages[address]
        if address not in wanted or actions[address] == "unchanged":
            continue
        wanted |= {by for by in stage.after.values() if actions[by] != "unchanged"}
        for made in stage.input_stages.values():
            if made not in wanted and actions[made] == "run":
                raise StaleError(
                    f"{address}: its input {made} is missing or out of date and not selected",
                    f"select '+{stage.name}' to bring its inputs up to date first",
                )
            if actions[made] == "restore":
                wanted.add(made)
    return tuple(stage for address, stage in stages.items() if address in wanted)


def find_stage(plan: Plan, name: str) -> Stage:
    """The one stage called ``name`` (``train``, or its whole address).

    Raises:
        UsageError: there is none (exit 64).
    """
    for stage in plan.stages():
        if name in _names(stage, plan.recipe):
            return stage
    known = [stage.name for stage in plan.stages()]
    raise UsageError(
        f"{plan.recipe}: no stage is called {name!r}", nearest("stages are", name, known)
    )


def _one(
    word: str,
    recipe: str,
    stages: tuple[Stage, ...],
    above: Mapping[str, set[str]],
    below: Mapping[str, set[str]],
) -> set[str]:
    parsed = _WORD.fullmatch(word)
    if parsed is None or ":" in word or "@" in word:
        raise UsageError(f"--select {word!r}: not a selector", _SYNTAX)
    name = parsed["name"]
    found = {
        stage.address
        for stage in stages
        if stage.kind == name or any(fnmatchcase(known, name) for known in _names(stage, recipe))
    }
    if not found:
        known = sorted({stage.name for stage in stages} | {stage.kind for stage in stages})
        raise UsageError(
            f"--select {word!r}: {recipe} has no such stage or kind",
            nearest("stages and kinds are", name.rpartition("/")[2], known),
        )
    start = set(found)
    for steps, edges in ((parsed["up"], above), (parsed["down"], below)):
        if steps is not None:
            found |= _reach(start, edges, int(steps) if steps else len(stages))
    return found


def _names(stage: Stage, recipe: str) -> tuple[str, ...]:
    """What a person may call a stage; a shared one also by the recipe it is planned for."""
    return (stage.name, stage.address, f"{recipe}/{stage.name}")


def _reach(start: set[str], edges: Mapping[str, set[str]], steps: int) -> set[str]:
    found: set[str] = set()
    front = start
    for _ in range(steps):
        front = {far for near in front for far in edges[near]} - found
        if not front:
            break
        found |= front
    return found
