"""What the target's recipe of a name asks of a model: its bars, its test rows, how it measures.

A pull request may raise a bar and add one; what it lowers, takes away or measures otherwise the
target's recipe asks all the same. Where rows or measuring differ, the new model answers the
target's test rows as the target's recipe has them asked and scored, in the target's own tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.ci.result import RecipeResult
from slmcompile.ci.reuse import Say, bring
from slmcompile.ci.run import call, line
from slmcompile.ci.store import MAIN, Store
from slmcompile.ci.tree import known, tree
from slmcompile.console.errors import Exit
from slmcompile.data.normalise import normalised
from slmcompile.data.store import open_split, read_split, split_file, write_split
from slmcompile.files.artifact import (
    appearing,
    read_manifest,
    replacing,
    sha256_file,
    write_json,
)
from slmcompile.files.revision import Revision
from slmcompile.files.second_name import link_or_copy
from slmcompile.plans.artifacts import TUNED
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.gates import judge
from slmcompile.stages.scores import read_comparisons, read_metrics
from slmcompile.state.finished import link

_LEAST = 20
"""Test rows of the target that have to be left for its bars to be held on them."""

_BESIDE = "beside"
"""Pipeline, in the target's tree, of what is measured of another model."""


@dataclass(frozen=True)
class Target:
    """The target's recipes that a proposal changes.

    Attributes:
        project: the target's own tree.
        plans: by recipe; one that the target does not have is not there.
    """

    project: Project
    plans: Mapping[str, Plan]


def target_of(
    project: Project, target: Revision, recipes: tuple[str, ...], folder: Path, say: Say
) -> Target:
    """Makes the target's tree, with what is finished of its rows.

    Args:
        project: of the repository.
        target: the target's tip.
        recipes: those that are changed.
        folder: an empty one.
        say: told of what cannot be used.
    """
    with tree(project, target, target, known(target, recipes), folder) as made:
        for plan in made.plans.values():
            bring(made.project, plan, (Store(made.project, MAIN),), say, kinds=_OF_ROWS)
        return Target(made.project, made.plans)


_OF_ROWS = frozenset({"base", "data"})


def held(
    of: Target, made: Project, plan: Plan, environ: Mapping[str, str], say: Say
) -> RecipeResult:
    """Whether a model that was trained, and met its own bars, meets the target's.

    Args:
        of: the target.
        made: the tree in which the model was trained.
        plan: of its recipe.
        environ: the job's environment.
        say: told what is measured.
    """
    name = plan.recipe
    before = of.plans.get(name)
    if before is None or not any(_bars(before)):
        return RecipeResult(name, 0)
    elsewhere = [*learned_elsewhere(before, plan, plan)]
    if not elsewhere and _same_measure(before, plan):
        return _said(name, missed_bars(before, _scored(made, plan)))
    ended = call(of.project, ("run", name, "--select", "+data"), name, environ)
    if ended.code:
        return ended
    rows, own = _rows(before), _rows(plan)
    asked: dict[str, str] = {}
    told: list[str] = []
    seen = False
    for role, path in rows.items():
        asked[role] = f"outputs/{_BESIDE}/{role}"
        trained = [made.root / each for each in _learned(before, plan, role)]
        kept, every = _untrained(of.project.root / path, trained, of.project.root / asked[role])
        if kept < min(_LEAST, every):
            return RecipeResult(
                name,
                int(Exit.BAD_DATA),
                f"{every - kept} of the target's {every} test rows are trained on",
                "keep test rows apart: a source of their own, or a split by a column",
            )
        seen = seen or kept < every
        told.append(f"{kept} of the target's {every} test rows")
    if not seen and _same_rows(of.project, rows, made, own) and _same_asking(before, plan):
        return _said(name, missed_bars(before, _scored(made, plan)))
    for each in told:
        say(f"{name}: not comparable: held on {each}")
    beside = of.project.root / "outputs" / _BESIDE / "score"
    wrong = _measured(of.project, before, made, plan, asked, environ)
    return wrong or _said(name, missed_bars(before, beside))


def _rows(plan: Plan) -> dict[str, str]:
    """Folders of rows by the role that they have where answers are scored."""
    inputs = plan.stage("score").inputs
    return {role: path for role, path in inputs.items() if role.partition("--")[0] == "data"}


def learned_elsewhere(before: Plan, now: Plan, view: Plan) -> Iterator[str]:
    """Folders of rows that weights learned from in trainings of other recipes.

    Those that they go on from, and those whose adapters are taken, however far back; but for what
    the target has learned there as well.

    Args:
        before: the target's plan.
        now: of the recipe.
        view: of the adapter whose weights they are; ``now`` itself of a plain recipe.
    """
    known, found = {*before.fingerprints().values()}, now.fingerprints()
    for stage in view.stages():
        other = stage.kind == "train" and stage.pipeline != now.recipe
        if other and found[stage.address] not in known:
            data = {each.out for each in view.stages() if each.kind == "data"}
            yield from (path for path in stage.inputs.values() if path in data)


def _learned(before: Plan, now: Plan, role: str) -> Iterator[str]:
    """Folders of rows that what answers a role's rows has learned from; all, if none has it."""
    views, own, member = now.views, _rows(now), role.partition("--")[2]
    yield from [own[role]] if role in own else own.values()
    for view in [views[member]] if member in views else views.values():
        yield from learned_elsewhere(before, now, view)


def _untrained(rows: Path, trained: Iterable[Path], to: Path) -> tuple[int, int]:
    """Writes rows whose test rows are those that another model was not trained on.

    Prompts are told apart as the leak check does. Returns how many there are, and of how many.
    """
    known: set[str] = set()
    for folder in trained:
        if split_file(folder, "train").is_file():
            known |= {normalised(row.prompt) for row in open_split(folder, "train")}
    every = read_split(rows, "test")
    kept = [row for row in every if normalised(row.prompt) not in known]
    manifest = read_manifest(rows)
    with replacing(to, "data", manifest["info"], manifest.get("fingerprint")) as out:
        for name in manifest["files"]:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(str(rows / name), out / name)
        split_file(out, "test").unlink()
        write_split(out, "test", kept)
    return len(kept), len(every)


def _scored(made: Project, plan: Plan) -> Path:
    return made.root / plan.stage("score").out


def _same_measure(before: Plan, now: Plan) -> bool:
    """Whether rows, asking and scoring are the same, as far as plans tell."""
    same_data = _fingerprints(before, "data") == _fingerprints(now, "data")
    return same_data and _same_asking(before, now)


def _fingerprints(plan: Plan, kind: str) -> list[str]:
    every = plan.fingerprints()
    return [every[stage.address] for stage in plan.stages() if stage.kind == kind]


def _same_asking(before: Plan, now: Plan) -> bool:
    """Whether answers are asked for and scored in the same way, by what the target has bars on."""

    def asking(plan: Plan) -> dict[str, Any]:
        return {
            stage.name: (stage.identity(), [plan.files[path] for path in stage.files])
            for stage in plan.own.stages
            if stage.kind in {"answer", "score"}
        }

    old, new = asking(before), asking(now)
    return all(new.get(name) == old[name] for name in _of_bars(before) if name in old)


def _of_bars(plan: Plan) -> Iterator[str]:
    """Names of the stages that the bars of a recipe are judged by."""
    artifacts = {gate.artifact for _, gate in _bars(plan)}
    for stage in plan.own.stages:
        if stage.kind == "score" or (stage.kind == "answer" and stage.artifact in artifacts):
            yield stage.name


def _same_rows(
    there: Project, old: Mapping[str, str], made: Project, new: Mapping[str, str]
) -> bool:
    def tests(project: Project, rows: Mapping[str, str]) -> dict[str, str]:
        folders = {role: split_file(project.root / path, "test") for role, path in rows.items()}
        return {role: sha256_file(path) for role, path in folders.items() if path.is_file()}

    return tests(there, old) == tests(made, new)


def _measured(
    there: Project,
    before: Plan,
    made: Project,
    now: Plan,
    rows: Mapping[str, str],
    environ: Mapping[str, str],
) -> RecipeResult | None:
    """Has the new model answer the target's rows, by the target's specs; None where it did."""
    scored = before.stage("score")
    artifacts = {gate.artifact for _, gate in _bars(before)} | {TUNED}
    by_role = {role: path for role, path in scored.inputs.items() if role.startswith("answer-")}
    others = {role: path for role, path in scored.inputs.items() if role not in by_role}
    answers: dict[str, str] = {}
    for stage in before.own.stages:
        # A bar on a drop is about the tuned model as well.
        if stage.kind != "answer" or stage.artifact not in artifacts:
            continue
        same = next((each for each in now.own.stages if each.name == stage.name), None)
        if same is None:
            return RecipeResult(
                now.recipe,
                int(Exit.GATE_FAILED),
                f"a bar of the target is on {stage.name}, which is not made any more",
                "keep it, or change the bar in a pull request of its own",
            )
        (role,) = [role for role, path in stage.inputs.items() if path in _rows(before).values()]
        inputs = {role: rows[_role_of(before, stage.inputs[role])]}
        its_own = {each: path for each, path in same.inputs.items() if each != role}
        inputs |= {each: _beside(there, made, path) for each, path in its_own.items()}
        (wanted,) = [each for each, path in by_role.items() if path == stage.out]
        answers[wanted] = f"outputs/{_BESIDE}/{stage.name}"
        ended = _executed(there, stage, inputs, environ)
        if ended.code:
            return ended
    ended = _executed(there, scored, {**others, **rows, **answers}, environ)
    return ended if ended.code else None


def _beside(there: Project, made: Project, path: str) -> str:
    """Where the target's tree has an input of the new model.

    Under a name of its own: a base whose files differ has the same one in both trees.
    """
    to = f"outputs/{_BESIDE}/of/{path.removeprefix('outputs/')}"
    if not (there.root / to).exists():
        with appearing(there.root / to) as copy:
            link(made.root / path, copy)
    return to


def _role_of(plan: Plan, path: str) -> str:
    return next(role for role, each in _rows(plan).items() if each == path)


def _executed(
    there: Project, stage: Stage, inputs: Mapping[str, str], environ: Mapping[str, str]
) -> RecipeResult:
    """Executes a stage of the target's with other inputs."""
    spec = {
        **stage.spec(),
        "stage": f"{_BESIDE}/{stage.name}",
        "inputs": dict(inputs),
        "out": f"outputs/{_BESIDE}/{stage.name}",
        "metrics": None,
        "plots": None,
    }
    path = f"pipelines/{_BESIDE}/plan/{stage.name}.json"
    write_json(there.root / path, spec)
    return call(there, ("exec", path), stage.pipeline, environ)


def _bars(plan: Plan) -> Iterator[tuple[str, Gate]]:
    """Every gate of a recipe with the adapter that it is of, empty in a plain recipe."""
    config = plan.stage("gate").config
    for member, own in config.get("members", {"": config}).items():
        yield from ((member, Gate(**gate)) for gate in own.get("gates", ()))


def missed_bars(plan: Plan, scored: Path) -> Iterator[str]:
    """Every bar of a recipe that is not met, in a sentence."""
    for member, gate in _bars(plan):
        folder = scored / member if member else scored
        try:
            verdicts = judge([gate], read_metrics(folder), read_comparisons(folder))
        except (KeyError, OSError, ValueError):
            yield f"{gate.metric} of {gate.artifact} is not measured any more"
        else:
            yield from (verdict.text for verdict in verdicts if not verdict.passed)


def _said(name: str, missed: Iterable[str]) -> RecipeResult:
    failed = list(missed)
    if not failed:
        return RecipeResult(name, 0)
    return RecipeResult(
        name,
        int(Exit.GATE_FAILED),
        line(f"{len(failed)} bars of the target are missed: {'; '.join(failed)}"),
        "train better, or change the bar in a pull request of its own",
    )
