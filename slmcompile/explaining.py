"""The commands that look at plans and run nothing: ``plan``, ``why``, ``diff``, ``show FILE``.

Each takes parsed arguments, prints, and returns an exit code.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile import api
from slmcompile.checks.judge import refusal
from slmcompile.errors import Exit
from slmcompile.pipeline.changes import Change
from slmcompile.planning.definition import Plan
from slmcompile.planning.text import plan_text, stage_lines, summary
from slmcompile.printable import json_text, printable
from slmcompile.project import find_project

if TYPE_CHECKING:
    from slmcompile.planning.diff import Difference


def plan(arguments: Namespace) -> int:
    """Prints a plan; with ``--against`` also what differs; with ``--out`` also writes it."""
    project = find_project()
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
        from slmcompile.planning.compared import against

        difference = against(project, planned.plan, arguments.against)
    if arguments.json:
        _print_json(_plan_json(shown, arguments.select, difference))
    else:
        _print_plan(shown, len(planned.changes) - len(shown.changes), difference)
    error = refusal(planned.findings)
    if error is not None:
        raise error
    if arguments.out:
        api.save_plan(project, planned, Path(arguments.out), arguments.select or ())
        print(f"wrote {arguments.out}", file=sys.stderr)
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
        from slmcompile.planning.diff import to_json

        document["against"] = to_json(difference)
    return document


def _print_plan(shown: api.PlannedRun, left_out: int, difference: Difference | None) -> None:
    print(plan_text(shown), flush=True)
    if left_out:
        print(f"Not selected: {left_out} stages.", flush=True)
    if difference is not None:
        from slmcompile.planning.diff_text import diff_text

        print(f"\n{diff_text(difference)}", flush=True)


def why(arguments: Namespace) -> int:
    """Prints the root causes for one stage or a whole recipe."""
    from slmcompile.pipeline.sync import compile_recipe
    from slmcompile.planning import explain
    from slmcompile.planning.explain_text import explain_text
    from slmcompile.planning.selection import find_stage

    project = find_project()
    recipe, slash, name = arguments.stage.partition("/")
    compiled = compile_recipe(project, recipe, arguments.overrides)
    stage = find_stage(compiled, name) if slash else None
    explanation = explain.explain(project, compiled, stage)
    if arguments.json:
        _print_json(explain.to_json(explanation))
    else:
        print(explain_text(explanation))
    return Exit.DONE


def diff(arguments: Namespace) -> int:
    """Prints what differs between two plans."""
    from slmcompile.planning import compared
    from slmcompile.planning.diff import to_json
    from slmcompile.planning.diff_text import diff_text

    difference = compared.diff(find_project(), (arguments.old, arguments.new))
    if arguments.json:
        _print_json(to_json(difference))
    else:
        print(diff_text(difference))
    return Exit.CHANGES if arguments.detailed_exitcode and difference.any else Exit.DONE


def show_plan(path: Path, *, as_json: bool) -> int:
    """Prints a saved plan."""
    from slmcompile.planning.saved import load

    saved = load(path)
    if as_json:
        _print_json(json.loads(path.read_text(encoding="utf-8")))
        return Exit.DONE
    plan = saved.plan
    shown = saved.changes
    lines = [" ".join([f"plan {plan.plan_id} of", plan.recipe, *plan.overrides])]
    if saved.select:
        shown = _chosen(plan, shown, saved.select)
        lines.append(f"select {' '.join(saved.select)}")
    lines += [*stage_lines(shown), summary(shown)]
    lines.append(
        f"made from {len(saved.sources)} recipe and group files, {len(plan.files)} data files"
    )
    print("\n".join(printable(line) for line in lines))
    return Exit.DONE


def _chosen(
    plan: Plan, changes: tuple[Change, ...], selectors: Sequence[str]
) -> tuple[Change, ...]:
    from slmcompile.planning.selection import select

    chosen = {stage.address for stage in select(plan, selectors)}
    return tuple(change for change in changes if change.stage.address in chosen)


def _print_json(document: dict[str, Any]) -> None:
    print(json_text(document))
