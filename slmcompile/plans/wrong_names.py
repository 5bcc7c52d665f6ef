"""Names that cannot be: of targets, of adapters, and those that gates and metrics give.

And what an adapter says that only its recipe can say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from slmcompile.console.errors import BadRecipeError
from slmcompile.metrics import AGAINST_FORGETTING, METRICS
from slmcompile.plans.artifacts import RESERVED, TUNED
from slmcompile.plans.beside import bases_of
from slmcompile.plans.definition import OF_MEMBER
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.wrong_budgets import AROUND_A_BASE, LONGEST_NAME, wrong_budgets
from slmcompile.recipe.compose import Composed
from slmcompile.recipe.members import ADAPTERS, TAKEN_FROM
from slmcompile.recipe.overrides import shown
from slmcompile.recipe.schema import Gate, Recipe
from slmcompile.templates import TEMPLATES

_WHOLE = "the full-precision base"

_FOLDERS = frozenset({"beside", "checks", "gates"})
"""Folders below ``outputs/`` that are no recipe's."""

_SHARED = re.compile(rf"({'|'.join(KINDS)})(-[a-z0-9_-]+)?-[0-9a-f]{{8}}")
"""What pipelines are called that recipes share; a recipe of that name would take its place."""


def wrong_names(composed: Composed) -> Iterator[BadRecipeError]:
    """Targets, adapters and gates that cannot be; one error a gate."""
    recipe = composed.whole
    if composed.name in _FOLDERS or _SHARED.fullmatch(composed.name):
        yield BadRecipeError(
            f"recipes/{composed.name}.yaml: the recipe's name is that of another folder of outputs",
            "rename the file",
        )
    if not recipe.target:
        yield BadRecipeError(
            f"{composed.origin(('target',))}: target: no target is named",
            "name at least one, e.g. `- target: [cpu-int8]`",
        )
    yield from _names_taken(composed)
    wrong_over = [*_over_what(composed)]
    yield from wrong_over or _too_long_for_a_base(composed)
    yield from wrong_budgets(composed)
    yield from _of_all_adapters(composed)
    yield from _of_adapters_alone(composed)
    for view in composed.members.values():
        yield from _files_missing(view)
        yield from _nobody_asked(view)
    yield from _overridden_by_all(composed)
    for index, gate in enumerate(recipe.gates):
        where = f"{composed.origin(('gates', str(index)))}: gates.{index}"
        if error := _wrong_gate(composed, gate, where):
            yield error


def _names_taken(composed: Composed) -> Iterator[BadRecipeError]:
    """Names of targets and adapters that mean something else, or that cannot be joined."""
    recipe = composed.whole
    for section, names, taken in (
        ("target", recipe.target, RESERVED),
        ("adapters", recipe.adapters, RESERVED | {"default", *recipe.target}),
    ):
        for name in names:
            where = f"{composed.origin((section, name))}: {section}.{name}"
            if name in taken:
                yield BadRecipeError(
                    f"{where}: the name is taken",
                    f"choose a name other than {', '.join(sorted(taken))}",
                )
            if OF_MEMBER in name:
                yield BadRecipeError(
                    f"{where}: a name with {OF_MEMBER} in it",
                    f"choose a name without it: {re.sub('-+', '-', name)}",
                )
    for name in (f"{t}{OF_MEMBER}{m}" for t in recipe.target for m in recipe.adapters):
        if len(name) > LONGEST_NAME:
            yield BadRecipeError(
                f"{composed.origin(('adapters',))}: adapters: {name} is longer than"
                f" {LONGEST_NAME} characters",
                "choose a shorter name for the adapter or the target",
            )


def _overridden_by_all(composed: Composed) -> Iterator[BadRecipeError]:
    """Overrides of what adapters have in common that every one of them says for itself."""
    if not composed.whole.adapters:
        return
    views = composed.members.values()
    heard = {where for view in views for where in view.origins.values()}
    for text in composed.overrides:
        key = text.lstrip("+").partition("=")[0]
        section, dot, rest = key.partition(".")
        if section in {"train", "eval"} and dot and "=" in text and shown(text) not in heard:
            own = [name for name in composed.members if name not in composed.taken]
            first, other = next(iter(composed.taken.items()), ("", composed))
            yield BadRecipeError(
                f"{shown(text)}: every adapter has {key} of its own, so that it changes nothing",
                f"say whose: adapters.{own[0]}.{section}.{rest}=…"
                if own
                else f"change it in recipe {other.name}, which trains {first}",
            )


def _over_what(composed: Composed) -> Iterator[BadRecipeError]:
    """Bases to train over that no target has, or that adapters do not have in common."""
    views = composed.members
    first, common = next((name, view.recipe.train.over) for name, view in views.items())
    for name, view in views.items():
        over, taken = view.recipe.train.over, name in composed.taken
        # Of one that another recipe trains, that recipe is as it should be.
        key = f"{ADAPTERS}.{name}.{TAKEN_FROM}" if taken else "train.over"
        at = (composed if taken else view).origin(tuple(key.split(".")))
        if over is not None and over not in view.recipe.target:
            yield BadRecipeError(
                f"{at}: {key}: no target is called {over!r}, over which is trained",
                f"targets: {', '.join(view.recipe.target) or 'none'}; or train over the base"
                " itself: train.over=null",
            )
        elif over != common:
            yield BadRecipeError(
                f"{at}: {key}: {name} is trained over {over or _WHOLE}, {first} over"
                f" {common or _WHOLE}; adapters of a recipe have one base",
                f"take one that is trained over {common or _WHOLE}"
                if taken
                else f"give {key} once, for all of them",
            )


def _too_long_for_a_base(composed: Composed) -> Iterator[BadRecipeError]:
    """Targets whose base cannot be named by them."""
    for name in bases_of(composed):
        if len(name) + AROUND_A_BASE > LONGEST_NAME:
            yield BadRecipeError(
                f"{composed.origin(('target', name))}: target.{name}: the name is longer than"
                f" {LONGEST_NAME - AROUND_A_BASE} characters, and adapters stand beside its base",
                "choose a shorter name for the target",
            )


def _of_all_adapters(composed: Composed) -> Iterator[BadRecipeError]:
    """Keys by which all adapters are trained, where one of them has its own."""
    recipe = composed.whole
    for name, adapter in recipe.adapters.items():
        for key in ("together", "isolated"):
            common, given = getattr(recipe.train, key), getattr(adapter.train, key)
            if given != common:
                where = composed.members[name].origin(("train", key))
                yield BadRecipeError(
                    f"{where}: adapters.{name}.train.{key}: it says how all adapters of the recipe"
                    f" are trained, whose train.{key} is {str(common).lower()}",
                    f"give it once, as train.{key}",
                )


def _of_adapters_alone(composed: Composed) -> Iterator[BadRecipeError]:
    """How adapters are trained beside each other, where none is beside another."""
    train = composed.whole.train
    wrong = {
        "isolated": (
            not train.together,
            "each adapter has a training of its own, by train.together",
        ),
    }
    if not composed.whole.adapters:
        one = (True, "it says how several adapters are trained, and the recipe names none")
        wrong = dict.fromkeys(("together", "isolated"), one)
    for key, (without, why) in wrong.items():
        if without and getattr(train, key) != type(train).model_fields[key].default:
            yield BadRecipeError(
                f"{composed.origin(('train', key))}: train.{key}: without effect: {why}",
                f"take train.{key} out",
            )


def _wrong_gate(composed: Composed, gate: Gate, where: str) -> BadRecipeError | None:
    """The first thing that is wrong with a gate."""
    members, known = composed.members, [TUNED, *composed.whole.target]
    if gate.adapter is None and "" not in members:
        return BadRecipeError(
            f"{where}: it names no adapter", f"say whose: adapter: {next(iter(members))}"
        )
    if (gate.adapter or "") not in members:
        named = f"adapters: {', '.join(members)}" if "" not in members else "take `adapter` out"
        return BadRecipeError(f"{where}: no adapter is called {gate.adapter!r}", named)
    recipe = members[gate.adapter or ""].recipe
    if gate.artifact not in known:
        return BadRecipeError(
            f"{where}: no artifact is called {gate.artifact!r}", f"artifacts: {', '.join(known)}"
        )
    if error := _unmeasured(recipe, gate, where):
        return error
    if gate.min is None and gate.max is None and gate.max_drop is None:
        return BadRecipeError(f"{where}: it has no bar", "give min, max or max_drop")
    if gate.beyond_chance and (gate.max_drop is None or gate.source):
        return BadRecipeError(
            f"{where}: beyond_chance compares all rows of an export with torch's",
            "give max_drop, and no source, or take beyond_chance out",
        )
    if gate.max_drop is not None and gate.artifact == TUNED:
        return BadRecipeError(
            f"{where}: max_drop compares an export with the torch model",
            "name the export: artifact: cpu-int8",
        )
    return None


def _unmeasured(recipe: Recipe, gate: Gate, where: str) -> BadRecipeError | None:
    """What is wrong where nobody measures a gate's metric of the rows that it is about."""
    if gate.source is not None:
        parts = {part.name: part for part in recipe.data.parts if part.name}
        if gate.source not in parts:
            sources = (
                f"sources: {', '.join(parts)}" if parts else "data.sources has none: remove it"
            )
            return BadRecipeError(f"{where}: no source is called {gate.source!r}", sources)
        part = parts[gate.source]
        asks = part.counted and TEMPLATES[part.template.type].asks
        if not METRICS[gate.metric].measures(asks=asks):
            what = "is of answers, and of this source likelihoods alone are measured"
            return BadRecipeError(f"{where}: {gate.metric} {what}", _of_text())
        # Of a source against forgetting perplexity is, where nothing else of its kind is wanted.
        others = any(METRICS[name].measures(asks=False) for name in recipe.eval.metrics)
        if not part.counted and not others and gate.metric == AGAINST_FORGETTING:
            return None
    elif not METRICS[gate.metric].measures(asks=recipe.data.asks):
        return BadRecipeError(f"{where}: {gate.metric} {_OF_ANSWERS}", _of_text())
    always = METRICS[gate.metric].always_of(recipe.data.task)
    if gate.metric in recipe.eval.metrics or always:
        return None
    return BadRecipeError(
        f"{where}: {gate.metric} is not measured", f"add {gate.metric} to eval.metrics"
    )


_OF_ANSWERS = "is of answers, and plain text (template completion) asks for none"


def _of_text() -> str:
    names = [name for name, metric in METRICS.items() if metric.measures(asks=False)]
    return f"use {', '.join(names)}"


def _nobody_asked(composed: Composed) -> Iterator[BadRecipeError]:
    """What is measured of answers, where no row of the task asks for any."""
    section = composed.recipe.eval
    if composed.recipe.data.asks:
        return
    wrong = [name for name in section.metrics if not METRICS[name].measures(asks=False)]
    if wrong:
        index = section.metrics.index(wrong[0])
        where = composed.origin(("eval", "metrics", str(index)))
        others = f" (and {', '.join(wrong[1:])})" if wrong[1:] else ""
        yield BadRecipeError(
            f"{where}: eval.metrics.{index}: {wrong[0]}{others} {_OF_ANSWERS}", _of_text()
        )
    if section.baselines:
        where = composed.origin(("eval", "baselines"))
        yield BadRecipeError(
            f"{where}: eval.baselines: they answer prompts, and plain text has none",
            "set eval.baselines=false",
        )


def _files_missing(composed: Composed) -> Iterator[BadRecipeError]:
    """Metrics whose file the recipe does not name."""
    section = composed.recipe.eval
    for index, name in enumerate(section.metrics):
        key = METRICS[name].file
        if key and getattr(section, key) is None:
            where = composed.origin(("eval", "metrics", str(index)))
            yield BadRecipeError(
                f"{where}: eval.metrics.{index}: {name} needs eval.{key}",
                f"name a file of the project: eval.{key}=PATH",
            )
