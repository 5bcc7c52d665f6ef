"""The commands that look at plans and run nothing: ``plan``, ``why``, ``diff``, ``show FILE``.

Each takes parsed arguments, prints, and returns an exit code.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile import api
from slmcompile.checks.judge import refusal
from slmcompile.console.errors import Exit, SlmcompileError, UsageError
from slmcompile.console.printable import printable
from slmcompile.console.terminal import fitted, print_json, tell
from slmcompile.explain.plan_text import plan_text, stage_lines, summary
from slmcompile.files.file_hash import hashes_kept
from slmcompile.plans.definition import Plan, Stage, shared_stage
from slmcompile.recipe.project import Project, find_project
from slmcompile.state.changes import Change

if TYPE_CHECKING:
    from slmcompile.explain.diff import Difference


def plan(arguments: Namespace) -> int:
    """Prints a plan; with ``--against`` also what differs; with ``--out`` also writes it."""
    project = replace(find_project(), policy_from=arguments.policy_from)
    with hashes_kept(project.root):
        return _plan(project, arguments)


def _plan(project: Project, arguments: Namespace) -> int:
    planned = api.plan(
        arguments.recipe,
        arguments.overrides,
        policy_from=arguments.policy_from,
        deep=arguments.deep,
    )
    shown = planned
    if arguments.select:
        kept = _chosen(planned.plan, planned.changes, arguments.select)
        shown = replace(planned, changes=kept)
    difference = None
    if arguments.against:
        from slmcompile.explain.sides import against

        difference = against(project, planned.plan, arguments.against)
    error = refusal(planned.findings, shown=sys.stdout.isatty() and not arguments.json)
    if arguments.out and error is None:
        api.save_plan(project, planned, Path(arguments.out), arguments.select or ())
        print(f"wrote {arguments.out}", file=sys.stderr)
    if arguments.json:
        print_json(_plan_json(shown, arguments.select, difference))
    else:
        _print_plan(shown, len(planned.changes) - len(shown.changes), difference)
    if error is not None:
        return tell(error)
    pending = any(change.action != "unchanged" for change in shown.changes)
    if difference is not None:
        pending = difference.any
    return Exit.CHANGES if arguments.detailed_exitcode and pending else Exit.DONE


def _plan_json(
    shown: api.PlannedRun, select: Sequence[str] | None, difference: Difference | None
) -> dict[str, Any]:
    document = api.to_json(shown)
    if select:
        document["select"] = list(select)
    if difference is not None:
        from slmcompile.explain.diff import to_json

        document["against"] = to_json(difference)
    return document


def _print_plan(shown: api.PlannedRun, left_out: int, difference: Difference | None) -> None:
    print(fitted(plan_text(shown)), flush=True)
    if left_out:
        print(f"Not selected: {left_out} stages.", flush=True)
    if difference is not None:
        from slmcompile.explain.diff_text import diff_text

        print(fitted(f"\n{diff_text(difference)}"), flush=True)


def why(arguments: Namespace) -> int:
    """Prints the root causes for one stage or a whole recipe."""
    from slmcompile.drift.files import lock
    from slmcompile.explain import why as explain
    from slmcompile.explain.why_text import explain_text

    project = find_project()
    with hashes_kept(project.root):
        compiled, stage = _asked_about(project, arguments.stage, arguments.overrides)
        explanation = explain.explain(project, compiled, stage)
        relock = not arguments.json and any(lock(project, [compiled]))
    if arguments.json:
        print_json(explain.to_json(explanation))
    else:
        print(fitted(explain_text(explanation, relock=relock)))
    return Exit.DONE


def _asked_about(
    project: Project, address: str, overrides: Sequence[str]
) -> tuple[Plan, Stage | None]:
    """The plan of a recipe, and the stage where ``address`` has one.

    A shared stage may be called by the address that plans print; any recipe that has it will do.
    """
    from slmcompile.execution.sync import compile_recipe
    from slmcompile.explain.selection import find_stage

    recipe, slash, name = address.partition("/")
    if not shared_stage(recipe) or recipe in project.names():
        compiled = compile_recipe(project, recipe, overrides)
        return compiled, find_stage(compiled, name) if slash else None
    for other in project.names():
        with suppress(SlmcompileError):
            compiled = compile_recipe(project, other, overrides)
            return compiled, find_stage(compiled, address)
    raise UsageError(
        f"{address}: no recipe has this shared stage",
        "name it by a recipe: RECIPE/base, RECIPE/data",
    )


def diff(arguments: Namespace) -> int:
    """Prints what differs between two plans."""
    from slmcompile.explain import sides as compared
    from slmcompile.explain.diff import to_json
    from slmcompile.explain.diff_text import diff_text

    project = find_project()
    with hashes_kept(project.root):
        difference = compared.diff(project, (arguments.old, arguments.new))
    if arguments.json:
        print_json(to_json(difference))
    else:
        print(fitted(diff_text(difference)))
    return Exit.CHANGES if arguments.detailed_exitcode and difference.any else Exit.DONE


def show_plan(path: Path, *, as_json: bool) -> int:
    """Prints a saved plan."""
    from slmcompile.explain.saved import load

    saved = load(path)
    if as_json:
        print_json(json.loads(path.read_text(encoding="utf-8")))
        return Exit.DONE
    plan = saved.plan
    shown = saved.changes
    lines = [" ".join([f"plan {plan.plan_id} of", plan.recipe, *plan.overrides])]
    if saved.select:
        shown = _chosen(plan, shown, saved.select)
        lines.append(f"select {' '.join(saved.select)}")
    lines += [*stage_lines(plan, shown), summary(shown)]
    lines.append(
        f"made from {len(saved.sources)} recipe and group files"
        f" and {len(plan.files)} files that stages read"
    )
    print(fitted("\n".join(printable(line) for line in lines)))
    return Exit.DONE


def _chosen(
    plan: Plan, changes: tuple[Change, ...], selectors: Sequence[str]
) -> tuple[Change, ...]:
    from slmcompile.explain.selection import select

    chosen = {stage.address for stage in select(plan, selectors)}
    return tuple(change for change in changes if change.stage.address in chosen)
