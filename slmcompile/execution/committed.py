"""A recipe as its last run left it: what its generated files say, whatever became of it since.

Whoever only looks at what was made (``show``, ``generate``, ``chat``) asks here and not the
compiler, which would refuse a recipe whose data file has moved. Which of what lies here was made
from something that is no longer there is read from DVC's locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slmcompile.console.errors import MissingError
from slmcompile.execution.sync import compile_recipe, read_overrides, spec_paths
from slmcompile.files.safe_read import leads_out, read_json
from slmcompile.plans.definition import Stage, shared_stage, with_all_they_read
from slmcompile.plans.kinds import KINDS
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from slmcompile.state.emit import overrides_path, runtime_path
from slmcompile.state.specs import read_spec
from slmcompile.state.state import Cache, Locked, md5_file, read_lock

_OF_THE_RECIPE = frozenset({"key", "package", "epoch", "file", "command"})
"""Causes of a change that lie in the recipe, its files and its environment, not in outputs."""


@dataclass(frozen=True)
class Committed:
    """What the generated files of a recipe say.

    Attributes:
        recipe: its name.
        overrides: those of the last run.
        targets: names of the exports, in the recipe's order.
        gates: the recipe's gates.
        stages: its own stages and the shared ones that they read, by address.
    """

    recipe: str
    overrides: tuple[str, ...]
    targets: tuple[str, ...]
    gates: tuple[Mapping[str, Any], ...]
    stages: Mapping[str, Stage]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the adapters that were trained; none of a plain recipe."""
        return tuple(dict.fromkeys(each.member for each in self.stages.values() if each.member))

    def of_member(self, member: str) -> Committed:
        """The same of one adapter, as of a plain recipe."""
        return replace(
            self,
            gates=tuple(
                {key: value for key, value in gate.items() if key != "adapter"}
                for gate in self.gates
                if gate.get("adapter", member) == member
            ),
            stages={
                address: stage.seen_by(member)
                for address, stage in self.stages.items()
                # A training of several need not be of all.
                if stage.member in {"", member} and member in stage.config.get("members", {member})
            },
        )

    def of_kind(self, kind: str) -> list[Stage]:
        """The recipe's own stages of one kind, by name."""
        own = (stage for stage in self.stages.values() if stage.pipeline == self.recipe)
        return [stage for stage in own if stage.kind == kind]


def read_committed(project: Project, recipe: str) -> Committed:
    """Reads the generated files of a recipe that has been synced here.

    Raises:
        MissingError: the recipe was never synced here (exit 69).
        UsageError, BadRecipeError: there is no such recipe.
    """
    project.recipe_file(recipe)
    own = [_stage(read_spec(project, path)) for path in spec_paths(project, recipe)]
    stages = {stage.address: stage for stage in own if stage}
    if not stages or not (project.root / overrides_path(recipe)).is_file():
        raise MissingError(f"{recipe}: never ran here", f"run `slmcompile run {recipe}`")
    wanted = [path for stage in stages.values() for path in stage.inputs.values()]
    while wanted:
        pipeline, _, deeper = wanted.pop().removeprefix("outputs/").partition("/")
        name = shared_stage(pipeline)
        if deeper or not name or f"{pipeline}/{name}" in stages:
            continue
        stage = _stage(read_spec(project, f"pipelines/{pipeline}/plan/{name}.json"))
        if stage:
            stages[stage.address] = stage
            wanted += stage.inputs.values()
    gate = stages.get(f"{recipe}/gate")
    return Committed(
        recipe,
        read_overrides(project, recipe),
        _targets(project, recipe, stages),
        tuple(_gates(gate.config)) if gate else (),
        stages,
    )


def _gates(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those of every adapter, with its name."""
    yield from config.get("gates", ())
    for member, own in config.get("members", {}).items():
        for gate in own.get("gates", ()):
            yield {**gate, "adapter": member}


def _stage(spec: Mapping[str, Any] | None) -> Stage | None:
    """The stage of a spec; None where it is not one that slmcompile has written."""
    if spec is None:
        return None
    texts = [spec.get(name) for name in ("stage", "kind", "out")]
    inputs = spec.get("inputs", {})
    paths = [*texts[2:], *inputs.values()]
    if not all(isinstance(text, str) and text for text in (*texts, *paths)):
        return None
    if any(leads_out(path) or not path.startswith(("outputs/", "pipelines/")) for path in paths):
        return None
    pipeline, _, name = spec["stage"].partition("/")
    metrics = spec.get("metrics")
    return Stage(
        pipeline=pipeline,
        name=name,
        kind=spec["kind"],
        config=spec.get("config", {}),
        packages=spec.get("packages", {}),
        inputs=inputs,
        out=spec["out"],
        metrics=(metrics,) if isinstance(metrics, str) else (),
        names=tuple(spec.get("names", ())),
    )


def _targets(project: Project, recipe: str, stages: Mapping[str, Stage]) -> tuple[str, ...]:
    """The exports in the recipe's order, which a spec's sorted keys do not tell."""
    exports = [stage.artifact for stage in stages.values() if stage.kind == "export"]
    runtime = read_json(project.root, runtime_path(recipe))
    listed = runtime.get("targets") if isinstance(runtime, dict) else None
    known = [name for name in listed if name in exports] if isinstance(listed, list) else []
    return tuple(dict.fromkeys([*known, *exports]))


def outdated(project: Project, committed: Committed) -> dict[str, dict[str, tuple[str, ...]]]:
    """Of every stage, those before it whose output is another now than the one it was made from.

    By address and by the role through which it comes, as far as DVC's locks tell; a stage that is
    up to date with what lies here has none.
    """
    names = {stage.pipeline for stage in committed.stages.values()}
    locks = {name: read_lock(project, name) for name in names}
    cache = Cache(project)
    makers = {path: stage for stage in committed.stages.values() for path in stage.outs}
    known: dict[str, tuple[str, ...]] = {}

    def locked(stage: Stage) -> Locked | None:
        return locks[stage.pipeline].get(stage.name)

    def look(stage: Stage) -> tuple[str, ...]:
        if stage.address not in known:
            known[stage.address] = ()  # whoever wrote a loop into the specs gets an end
            found = [each for role in stage.inputs for each in through(stage, role)]
            known[stage.address] = tuple(dict.fromkeys(found))
        return known[stage.address]

    def through(stage: Stage, role: str) -> Iterator[str]:
        made_from, path = locked(stage), stage.inputs[role]
        # Of what was trained for several adapters, one is a part.
        whole = next((out for out in makers if f"{path}/".startswith(f"{out}/")), path)
        maker = makers.get(whole)
        now = locked(maker) if maker else None
        if maker and now and made_from:
            md5 = now.outs.get(whole)
            if whole != path and md5:
                md5 = cache.part(md5, path[len(whole) + 1 :])
            if made_from.deps.get(path) != md5:
                yield maker.address
            yield from look(maker)

    return {
        address: {role: tuple(through(stage, role)) for role in stage.inputs}
        for address, stage in committed.stages.items()
    }


def made_before(committed: Committed, addresses: Sequence[str]) -> str:
    """What to call something by what has changed since it was made; empty where nothing has."""
    kinds = {committed.stages[address].kind for address in addresses}
    for words in ("of an earlier model", "on earlier data"):
        if any(KINDS[kind].outdated == words for kind in kinds):
            return words
    told = (KINDS[kind].outdated for kind in sorted(kinds, key=list(KINDS).index))
    for words in filter(None, told):
        return words
    return "of an earlier state" if kinds else ""


def changed_since(project: Project, committed: Committed, address: str = "") -> str:
    """What of the recipe is no longer as it was when it ran, in a sentence; empty if nothing is.

    With ``address`` only what that stage, or one before it, is made from.

    Raises:
        SlmcompileError: the recipe cannot be compiled any more.
    """
    plan = compile_recipe(project, committed.recipe, committed.overrides)
    wanted = (
        with_all_they_read([address], plan.stages())
        if address
        else {stage.address for stage in plan.stages()}
    )
    told = dict.fromkeys(
        reason.sentence()
        for each in changes(project, plan)
        if each.stage.address in wanted
        for reason in each.reasons
        if reason.cause in _OF_THE_RECIPE
    )
    if not told:
        return ""
    first, *others = told
    more = f" and {len(others)} more" if others else ""
    return f"the recipe has changed since: {first}{more}"


def made_as_asked(project: Project, committed: Committed, addresses: Iterable[str]) -> bool:
    """Whether stages, and all before them, ran last with what their spec files say now.

    A run that was refused, killed or given a selection leaves its overrides in the spec files, and
    the outputs of earlier runs, which had others.
    """
    made_by = {stage.out: stage for stage in committed.stages.values()}
    left, seen = [committed.stages[address] for address in addresses], set[str]()
    while left:
        stage = left.pop()
        if stage.address in seen:
            continue
        seen.add(stage.address)
        left += [made_by[path] for path in stage.inputs.values() if path in made_by]
        locked = read_lock(project, stage.pipeline).get(stage.name)
        written = md5_file(project.root / stage.spec_path)
        if locked is None or locked.deps.get(stage.spec_path) != written:
            return False
    return True
