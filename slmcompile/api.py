"""The public API: compile, plan and run a recipe. The command line is a thin layer over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from slmcompile.base.facts import read_model_facts
from slmcompile.checks.judge import judge, refusal
from slmcompile.checks.registry import Finding, all_checks
from slmcompile.console.errors import MissingError, RefusedError, SlmcompileError
from slmcompile.execution.executor import Executor
from slmcompile.execution.sync import compile_recipe, remove_orphans, sync
from slmcompile.explain.planned import PlannedRun, counted, plan_compiled, to_json
from slmcompile.facts.gather import context_of
from slmcompile.plans.definition import Plan, Stage
from slmcompile.plans.plugins import joined
from slmcompile.recipe.project import Project, find_project
from slmcompile.state.changes import Change, changes

if TYPE_CHECKING:
    from slmcompile.explain.results import ArtifactResult

__all__ = [
    "PlannedRun",
    "RunResult",
    "add_adapter",
    "apply",
    "compile",
    "plan",
    "report_path",
    "run",
    "save_as",
    "save_plan",
    "to_json",
]


@dataclass(frozen=True, repr=False)
class RunResult:
    """A finished run.

    Attributes:
        plan: what was run.
        changes: what was to be done when it began.
        artifacts: one entry per measured artifact, with its metrics.
        report: the report's HTML file; None where a selection left the report out.
    """

    plan: Plan
    changes: tuple[Change, ...]
    artifacts: tuple[ArtifactResult, ...]
    report: Path | None

    def __repr__(self) -> str:
        measured = ", ".join(artifact.name for artifact in self.artifacts) or "nothing"
        return f"<RunResult of {self.plan.recipe}: {counted(self.changes)}; measured {measured}>"


def compile(recipe: str, overrides: Sequence[str] = (), *, project: Path | None = None) -> Plan:
    """Composes and checks a recipe and builds its plan; runs and writes nothing.

    Args:
        recipe: name of ``recipes/<name>.yaml``.
        overrides: Hydra overrides, ``["train.learning_rate=1e-4"]``.
        project: any folder of the project; the current one by default.

    Raises:
        SlmcompileError: with ``what``, ``mend`` and the exit ``code``.
    """
    found = find_project(project)
    with joined(found):
        return compile_recipe(found, recipe, overrides)


def plan(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    project: Path | None = None,
    policy_from: str | None = None,
    deep: bool = False,
) -> PlannedRun:
    """As ``compile``, and says what each stage would do now, and why; writes nothing.

    ``policy_from`` is a git revision whose policy the recipe is held against. ``deep`` also reads
    all rows and builds the model without weights, in a child process.
    """
    found = replace(find_project(project), policy_from=policy_from)
    with joined(found):
        compiled = compile_recipe(found, recipe, overrides)
        return plan_compiled(found, compiled, policy_from, deep=deep)


def run(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    select: Sequence[str] = (),
    project: Path | None = None,
    policy_from: str | None = None,
    on_plan: Callable[[PlannedRun], None] | None = None,
    progress: IO[str] | None = None,
    executor: Executor | None = None,
) -> RunResult:
    """Brings the generated files in line, runs what is not up to date, returns what came out.

    The overrides replace those of the run before; none clears them.

    Args:
        recipe: name of ``recipes/<name>.yaml``.
        overrides: Hydra overrides.
        select: selectors of the stages to run (``["+train"]``); all by default. A result then
            holds only what the selected stages made.
        project: any folder of the project; the current one by default.
        policy_from: a git revision whose policy the recipe is held against, before anything runs,
            or where it limits the model's size, once the base model is there and before anything
            else runs; the working tree's by default.
        on_plan: told what is going to happen, before it does.
        progress: a real file that stages write their progress to; standard output by default.
        executor: what runs the stages; DVC by default.

    Raises:
        SlmcompileError: the first check that refutes the recipe, before anything is written; the
            failed stage's own error; exit 3 where a gate failed.
    """
    found = replace(find_project(project), policy_from=policy_from)
    asked = _Asked(recipe, tuple(overrides), tuple(select), policy_from)
    return _run(found, asked, on_plan, progress, executor)


def apply(
    path: Path,
    *,
    project: Path | None = None,
    policy_from: str | None = None,
    on_plan: Callable[[PlannedRun], None] | None = None,
    progress: IO[str] | None = None,
    executor: Executor | None = None,
) -> RunResult:
    """Runs exactly the plan that ``plan --out`` wrote.

    Raises:
        StaleError: something that the plan was made from has changed since (exit 4).
        SlmcompileError: as ``run``.
    """
    from slmcompile.explain import saved, staleness

    found = replace(find_project(project), policy_from=policy_from)
    asked = saved.load(path)
    staleness.check_files(found, asked)

    def check(planned: PlannedRun) -> None:
        staleness.check_unchanged(found, asked, planned.plan)
        staleness.check_same_work(asked, planned.changes)

    plan = asked.plan
    work = _Asked(plan.recipe, plan.overrides, asked.select, policy_from)
    return _run(found, work, on_plan, progress, executor, check)


@dataclass(frozen=True)
class _Asked:
    """What is to be run, and under whose policy."""

    recipe: str
    overrides: tuple[str, ...]
    select: tuple[str, ...]
    policy_from: str | None


def _run(
    found: Project,
    asked: _Asked,
    on_plan: Callable[[PlannedRun], None] | None,
    progress: IO[str] | None,
    executor: Executor | None,
    check: Callable[[PlannedRun], None] | None = None,
) -> RunResult:
    # What runs stages and reads results is not for those who only plan.
    from slmcompile.execution.dvc_executor import DvcExecutor
    from slmcompile.explain.results import read_results
    from slmcompile.state import finished
    from slmcompile.state.locks import recipe_lock
    from slmcompile.state.other_work import forget
    from slmcompile.state.torn_lock import keep_or_put_back
    from slmcompile.state.writable import check_writable

    say = partial(print, file=progress, flush=True)
    executor = executor or DvcExecutor(found, progress)
    with joined(found), recipe_lock(found, asked.recipe), executor:
        compiled = compile_recipe(found, asked.recipe, asked.overrides)
        keep_or_put_back(found, compiled, say)
        planned = plan_compiled(found, compiled, asked.policy_from)
        if check:
            check(planned)
        only = None
        if asked.select:
            planned, only = _selected(planned, asked.select)
        if on_plan:
            on_plan(planned)
        error = refusal(planned.findings)
        if error is not None:
            raise error
        executor.check()
        check_writable(found)
        sync(found, [compiled], running=asked.recipe)
        forget(found, planned.changes)
        if any(_awaits_weights(finding) for finding in planned.findings):
            executor.reproduce(compiled, (compiled.stage("base"),))
            _hold_to_policy(found, compiled, asked.policy_from)
        try:
            executor.reproduce(compiled, only)
        except MissingError:
            # For whoever runs `dvc repro` next; where there is still no room, our next run does it.
            with suppress(SlmcompileError):
                keep_or_put_back(found, compiled, say)
            raise
        finally:
            finished.release(found)
            with suppress(SlmcompileError):
                remove_orphans(found, compiled)
    if any(each.stage.kind == "gate" and each.action != "run" for each in planned.changes):
        # Its output says nothing but that it passed, so its lock alone could say that, too.
        from slmcompile.provenance.make import passed

        passed(found, compiled)
    ran = compiled if only is None else replace(compiled, own=replace(compiled.own, stages=only))
    scored = any(stage.kind == "score" for stage in ran.own.stages)
    reported = any(stage.kind == "report" for stage in ran.own.stages)
    return RunResult(
        compiled,
        planned.changes,
        read_results(found, compiled.stages()) if scored else (),
        report_path(found, asked.recipe) if reported else None,
    )


def _awaits_weights(finding: Finding) -> bool:
    """Whether the policy limits the base model's size, which is not known before it is there."""
    return finding.check.name == "allowed" and finding.verdict.outcome == "needs_probe"


def _hold_to_policy(found: Project, compiled: Plan, policy_from: str | None) -> None:
    """Judges the base model that is there now by the policy that the run began with.

    The ``check`` stage cannot do that: it reads the working tree's policy, which a pull request may
    have loosened, and DVC may restore it from a run under another one.

    Raises:
        SlmcompileError: the policy refuses the model, or its size cannot be told (exit 77).
    """
    base = compiled.stage("base")
    # Adapters of one recipe have the base model in common.
    view = next(iter(compiled.views.values()))
    context = context_of(found, view, changes(found, compiled), policy_from)
    context = replace(context, model=read_model_facts(found.root / base.out, base.out))
    findings = judge(context, [check for check in all_checks() if check.name == "allowed"])
    error = refusal(findings)
    if error is None and any(_awaits_weights(finding) for finding in findings):
        error = RefusedError(
            f"{base.out}: the size of its weights cannot be read, and the policy limits it",
            "remove the folder and run again",
        )
    if error is not None:
        raise error


def _selected(planned: PlannedRun, select: Sequence[str]) -> tuple[PlannedRun, tuple[Stage, ...]]:
    """What a selection runs, and the plan of that alone."""
    from slmcompile.explain import selection

    only = selection.with_needed(
        planned.plan, planned.changes, selection.select(planned.plan, select)
    )
    kept = tuple(change for change in planned.changes if change.stage in only)
    return replace(planned, changes=kept), only


def save_plan(project: Project, planned: PlannedRun, to: Path, select: Sequence[str] = ()) -> None:
    """Writes a plan as a file that ``apply`` runs.

    Raises:
        StaleError: the selection could not run by itself (exit 4).
    """
    from slmcompile.explain.saved import save

    if select:
        _selected(planned, select)
    save(project, planned.plan, planned.changes, to, tuple(select))


def report_path(project: Project, recipe: str) -> Path:
    """Where a recipe's report lies."""
    return project.root / "outputs" / recipe / "report" / "report.html"


def add_adapter(
    export: str, recipe: str, *, name: str = "", project: Path | None = None
) -> tuple[str, tuple[str, ...]]:
    """Makes a recipe of an export's adapters and that of another recipe; see ``plans.added``.

    Args:
        export: a recipe, ``recipe/export-TARGET`` or an export's folder.
        recipe: the recipe of one adapter that joins.
        name: what the new one is called; ``EXPORT-RECIPE`` by default.
        project: any folder of the project; the current one by default.

    Returns:
        Its name, and sentences about what could not come along.

    Raises:
        SlmcompileError: one of the two is damaged (exit 74), or they stand over other weights
            (exit 78); then nothing is written.
    """
    from slmcompile.execution.joining import add_adapter as added

    found = find_project(project)
    with joined(found):
        return added(found, export, recipe, name)


def save_as(project: Project, recipe: str, overrides: Sequence[str], name: str) -> Path:
    """Makes a recipe with its overrides a recipe of its own, ``recipes/<name>.yaml``."""
    from slmcompile.recipe.save import write_recipe

    compile_recipe(project, recipe, overrides)
    return write_recipe(project, recipe, overrides, name)
