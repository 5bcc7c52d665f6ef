"""The public API: compile, plan and run a recipe. The command line is a thin layer over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from slmcompile.errors import MissingError
from slmcompile.pipeline.changes import Change, changes
from slmcompile.pipeline.drive import recipe_lock, reproduce
from slmcompile.pipeline.emit import overrides_path
from slmcompile.pipeline.sync import compile_recipe, read_overrides, sync
from slmcompile.planning.definition import Plan
from slmcompile.project import Project, find_project
from slmcompile.results import ArtifactResult, read_results


@dataclass(frozen=True)
class PlannedRun:
    """A compiled recipe and what running it would do now."""

    plan: Plan
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        plan: what was run.
        changes: what was to be done when it began.
        artifacts: one entry per measured artifact, with its metrics.
        report: the report's HTML file.
    """

    plan: Plan
    changes: tuple[Change, ...]
    artifacts: tuple[ArtifactResult, ...]
    report: Path


def compile(recipe: str, overrides: Sequence[str] = (), *, project: Path | None = None) -> Plan:
    """Composes and checks a recipe and builds its plan; runs and writes nothing.

    Args:
        recipe: name of ``recipes/<name>.yaml``.
        overrides: Hydra overrides, ``["train.learning_rate=1e-4"]``.
        project: any folder of the project; the current one by default.

    Raises:
        SlmcompileError: with ``what``, ``mend`` and the exit ``code``.
    """
    return compile_recipe(find_project(project), recipe, overrides)


def plan(recipe: str, overrides: Sequence[str] = (), *, project: Path | None = None) -> PlannedRun:
    """As ``compile``, and says what each stage would do now, and why; writes nothing."""
    found = find_project(project)
    compiled = compile_recipe(found, recipe, overrides)
    return PlannedRun(compiled, changes(found, compiled))


def run(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    project: Path | None = None,
    on_plan: Callable[[PlannedRun], None] | None = None,
    progress: IO[str] | None = None,
) -> RunResult:
    """Brings the generated files in line, runs what is not up to date, returns what came out.

    The overrides replace those of the run before; none clears them.

    Args:
        recipe: name of ``recipes/<name>.yaml``.
        overrides: Hydra overrides.
        project: any folder of the project; the current one by default.
        on_plan: told what is going to happen, before it does.
        progress: a real file that stages write their progress to; standard output by default.

    Raises:
        SlmcompileError: the failed stage's own error; exit 3 where a gate failed.
    """
    found = find_project(project)
    with recipe_lock(found, recipe):
        compiled = compile_recipe(found, recipe, overrides)
        planned = PlannedRun(compiled, changes(found, compiled))
        if on_plan:
            on_plan(planned)
        sync(found, [compiled])
        reproduce(found, compiled, progress)
    return RunResult(
        compiled, planned.changes, read_results(found, compiled), report_path(found, recipe)
    )


def report_path(project: Project, recipe: str) -> Path:
    """Where a recipe's report lies."""
    return project.root / "outputs" / recipe / "report" / "report.html"


def save_as(project: Project, recipe: str, overrides: Sequence[str], name: str) -> Path:
    """Makes a recipe with its overrides a recipe of its own, ``recipes/<name>.yaml``."""
    from slmcompile.recipe.save import write_recipe

    compile_recipe(project, recipe, overrides)
    return write_recipe(project, recipe, overrides, name)


def last_plan(project: Project, recipe: str) -> Plan:
    """The plan of the last run, with its overrides.

    Raises:
        MissingError: the recipe was never synced here.
    """
    if not (project.root / overrides_path(recipe)).is_file():
        project.recipe_file(recipe)
        raise MissingError(f"{recipe}: never ran here", f"run `slmcompile run {recipe}`")
    return compile_recipe(project, recipe, read_overrides(project, recipe))


def to_json(planned: PlannedRun) -> dict[str, Any]:
    """A planned run for programs; ``format_version`` 1.0."""
    fingerprints = planned.plan.fingerprints()
    return {
        "format_version": "1.0",
        "recipe": planned.plan.recipe,
        "overrides": list(planned.plan.overrides),
        "plan_id": planned.plan.plan_id,
        "stages": [
            {
                "stage": change.stage.address,
                "kind": change.stage.kind,
                "action": change.action,
                "fingerprint": fingerprints[change.stage.address],
                "inputs": dict(change.stage.input_stages),
                "reasons": [
                    {
                        "cause": reason.cause,
                        "subject": reason.subject,
                        "old": reason.old,
                        "new": reason.new,
                        "where": reason.where,
                    }
                    for reason in change.reasons
                ],
            }
            for change in planned.changes
        ],
    }
