"""Makes the proposal of a pull request, from git objects alone.

Every recipe of the head and of the base is compiled without a checkout, without overrides and
under the policy of a third commit, the target's tip. Nothing of the head is executed, and what git
does not hold the bytes of cannot be proposed. The result depends on the commits and on the
versions of the installed packages, so that another job makes the same document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from slmcompile import __version__
from slmcompile.checks.judge import judge_all, sentence
from slmcompile.ci.proposal import (
    MOST_RECIPES,
    NO_BAR,
    CodeEntry,
    Forecast,
    Judged,
    KeyEntry,
    Problem,
    Proposal,
    RecipeEntry,
    StageEntry,
)
from slmcompile.ci.published import Published
from slmcompile.ci.touched import refused
from slmcompile.console.errors import RefusedError, SlmcompileError
from slmcompile.console.printable import printable, shortened
from slmcompile.estimate.time import cost_of
from slmcompile.explain.at_revision import TreeAt, tree_at
from slmcompile.explain.diff import Difference, KeyDifference, StageDifference, compare, side_of
from slmcompile.explain.executed import executed
from slmcompile.facts.context import CheckContext
from slmcompile.facts.gather import contexts_of
from slmcompile.files.revision import Revision, merge_base
from slmcompile.plans.canonical import digest
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.state.changes import Change, changes
from slmcompile.state.short_values import short_pair

_LONGEST = 300
_OF_EVALUATION = re.compile(r"(^|\.)eval\.")


@dataclass(frozen=True)
class _Side:
    """A recipe at one of the two commits: its plan, or why there is none.

    ``made_of`` are blobs by path, of one that has no plan.
    """

    plan: Plan | None
    problem: Problem | None = None
    made_of: Mapping[str, str] = field(default_factory=dict)


_NOT_THERE = _Side(None)


def propose(
    project: Project, head: Revision, target: Revision, *, queued: bool = False
) -> Proposal:
    """What a head would change, against its merge base with a target.

    Args:
        project: a project of the repository that holds the commits; nothing of its files is read.
        head: what is proposed.
        target: the tip of the branch that it is proposed to, whose policy holds.
        queued: whether the head is a merge queue's.

    Raises:
        SlmcompileError: a commit cannot be read as a project, or they have none in common.
    """
    base = merge_base(target, head)
    # What is said of it goes into the digest, and must not depend on who calls it what.
    head = replace(head, name=head.commit[:10])
    with tree_at(project, base, lends=False) as tree:  # its policy was the target's once
        before = {name: _side(tree, name) for name in tree.recipes}
    entries: list[RecipeEntry] = []
    judged: list[Judged] = []
    forecast: list[Forecast] = []
    published = Published(project, target, queued)
    plans: list[Plan] = []
    with tree_at(project, head, policy=target, lends=False) as tree:
        names = sorted(before.keys() | {*tree.recipes})
        if len(tree.recipes) > MOST_RECIPES:
            raise RefusedError(
                f"{head.shown}: more than {MOST_RECIPES} recipes", "keep them in several projects"
            )
        for name in names:
            now = _side(tree, name)
            plans += [now.plan] if now.plan else []
            entry = _entry(name, before.get(name, _NOT_THERE), now)
            if entry and now.plan:
                happening = changes(tree.project, now.plan)
                contexts = contexts_of(tree.project, now.plan, happening)
                judged += _judged(now.plan, contexts)
                forecast.append(_forecast(published, head, now.plan, entry, contexts, happening))
                code = _code(before.get(name, _NOT_THERE).plan, now.plan, happening)
                entry = replace(entry, executes=tuple(code))
            entries += [entry] if entry else []
    return Proposal(
        tool=__version__,
        head=head.commit,
        base=base.commit,
        recipes=tuple(entries),
        unchanged=len(names) - len(entries),
        refused=refused(base, head, plans) if entries else (),
        policy=target.commit,
        judged=tuple(judged),
        forecast=tuple(forecast),
    )


def _side(tree: TreeAt, name: str) -> _Side:
    try:
        return _Side(tree.plan(name).plan)
    except SlmcompileError as error:
        # Which revision it is of says the proposal.
        what = error.what.removeprefix(f"{tree.revision.shown}: ")
        problem = Problem(_line(what), _line(error.mend), int(error.code))
        return _Side(None, problem, tree.made_of(name))


def _forecast(
    published: Published,
    head: Revision,
    plan: Plan,
    entry: RecipeEntry,
    contexts: Mapping[str, CheckContext],
    happening: Sequence[Change],
) -> Forecast:
    """What it may take, by what the target has published."""
    differ = [stage for stage in entry.stages if stage.new is not None]
    cost = cost_of(tuple(contexts.values()), happening)
    return Forecast(
        plan.recipe,
        stages=len(differ),
        finished=sum(stage.new in published.finished for stage in differ),
        stated=published.states(head, plan.recipe, plan.fingerprints()),
        seconds=published.seconds(plan.recipe),
        tokens=cost.tokens,
        memory=int(cost.memory.high) if cost.memory else None,
    )


def _judged(plan: Plan, contexts: Mapping[str, CheckContext]) -> Iterator[Judged]:
    """What the checks refute or warn of, while the files are there."""
    for finding in judge_all(contexts):
        if finding.verdict.outcome == "refuted":
            yield Judged(
                plan.recipe,
                finding.check.name,
                _line(sentence(finding)),
                _line(finding.verdict.mend),
                int(finding.code) if finding.blocks else 0,
            )


def _entry(name: str, before: _Side, now: _Side) -> RecipeEntry | None:
    """How a recipe differs; None if it does not."""
    if now.problem:
        # What could not be planned before either keeps only those from training who touch it.
        same = now.problem == before.problem and now.made_of == before.made_of
        return None if same else RecipeEntry(name, "refused", problem=now.problem)
    difference = compare(side_of(name, before.plan), side_of(name, now.plan))
    if not difference.any:
        return None
    stages = tuple(map(_stage, (each for each in difference.stages if each.status != "same")))
    if now.plan is None:
        return RecipeEntry(name, "removed", stages=stages)
    bars, keys = _keys(difference)
    new = tuple(_bars([], now.plan.effective.get("gates") or [], ""))
    return RecipeEntry(
        name,
        "changed" if before.plan else "added",
        effective=digest(now.plan.effective),
        bars=bars if before.plan else new,
        keys=keys,
        stages=stages,
        rows=bool(before.plan) and any(stage.kind == "data" for stage in stages),
        measured=any(_OF_EVALUATION.search(key.key) for key in keys),
    )


def _stage(stage: StageDifference) -> StageEntry:
    reasons = tuple(_line(reason.sentence()) for reason in stage.reasons)
    status = "changed" if stage.status == "same" else stage.status
    return StageEntry(stage.name, stage.kind, status, reasons, stage.old, stage.new)


def _keys(difference: Difference) -> tuple[tuple[KeyEntry, ...], tuple[KeyEntry, ...]]:
    """The bars that differ, one by one, and the other keys."""
    bars: list[KeyEntry] = []
    keys: list[KeyEntry] = []
    for key in difference.keys:
        if key.key == "gates":
            bars += _bars(key.old or [], key.new or [], _where(key))
        else:
            old, new = short_pair(key.old, key.new)
            keys.append(KeyEntry(_line(key.key), _line(old), _line(new), _where(key)))
    return tuple(bars), tuple(keys)


def _bars(old: Sequence[object], new: Sequence[object], where: str) -> Iterator[KeyEntry]:
    """A line for each bar that is no more, and for each that is new."""
    for bar in old:
        if bar not in new:
            yield KeyEntry("gates", _line(short_pair([bar], [])[0]), NO_BAR, where)
    for bar in new:
        if bar not in old:
            yield KeyEntry("gates", NO_BAR, _line(short_pair([], [bar])[1]), where)


def _where(key: KeyDifference) -> str:
    return _line(key.new_where or key.old_where)


def _code(before: Plan | None, now: Plan, happening: Sequence[Change]) -> Iterator[CodeEntry]:
    """Code of the project that a run of the whole recipe would execute."""
    known: Mapping[str, str] = before.files if before else {}
    named = (path for stage in now.stages() for path in _of_plugins(stage))
    for path in dict.fromkeys((*executed(happening), *named)):
        yield CodeEntry(path, now.files[path], known.get(path) != now.files[path])


def _of_plugins(stage: Stage) -> Iterator[str]:
    return (path for path in stage.files if path.startswith("plugins/"))


def _line(text: str) -> str:
    return shortened(printable(text), _LONGEST)
