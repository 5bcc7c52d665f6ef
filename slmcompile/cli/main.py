"""The command line: calls what was typed and prints; every command is a function elsewhere.

Nothing heavier than argparse is imported before a command is known.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slmcompile.cli.words import arguments_of
from slmcompile.console import streams
from slmcompile.console.errors import Exit, SlmcompileError, UsageError
from slmcompile.console.printable import printable
from slmcompile.console.terminal import fitted, print_json, tell


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    # Pydantic would look through every installed package for plugins to import: none is asked for.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if argv is None:
        # Looking for garbage in all that is being imported, and once more in the end, is a fifth of
        # the time of a plan (benchmarks/plan_scale.py).
        gc.disable()
        atexit.register(gc.freeze)
        streams.prepare(lasting=not {*sys.argv[1:2]} & _TALKING)
    try:
        return _answer(argv)
    except SlmcompileError as error:
        # A command that has answered on standard output already tells its error itself.
        if "--json" in (sys.argv[1:] if argv is None else argv):
            print_json({"format_version": "2.0", "error": error.to_json()})
        return tell(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader has what it wanted.
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 (the one case with a traceback, and exit 70)
        from slmcompile.files.artifact import as_missing

        missing = isinstance(error, OSError) and as_missing(error, Path(error.filename or "."))
        if missing:
            return tell(missing)
        import traceback

        traceback.print_exc()
        print("error: this is a bug in slmcompile; please report the lines above", file=sys.stderr)
        return int(Exit.BUG)


def _answer(argv: Sequence[str] | None) -> int:
    try:
        arguments = arguments_of(argv)
        if arguments.command not in _BRIEF or getattr(arguments, "all", False):
            # What is imported by now is not looked through.
            gc.freeze()
            gc.enable()
        with _plugins(arguments):
            return int(_COMMANDS[arguments.command](arguments))
    finally:
        sys.stdout.flush()  # what a full disk refuses is known now, and not when we have ended


def _plugins(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """The plug-ins of the project that a command is given in, if it is given in one."""
    from slmcompile.plans.plugins import joined
    from slmcompile.recipe.project import find_project

    try:
        project = find_project()
    except UsageError:
        return nullcontext()
    return joined(replace(project, policy_from=getattr(arguments, "policy_from", None)))


def _plan(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import plan

    if arguments.all or not arguments.recipe:
        return _plan_all(arguments)
    return plan.plan(arguments)


def _why(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import plan

    return plan.why(arguments)


def _diff(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import plan

    return plan.diff(arguments)


def _plan_all(arguments: argparse.Namespace) -> int:
    from slmcompile.explain.plan_all import exit_code, survey, survey_json, survey_text
    from slmcompile.recipe.project import find_project

    if arguments.recipe or not arguments.all:
        raise UsageError("plan: name one recipe, or --all", "slmcompile plan --all")
    for option in ("select", "deep", "against", "out"):
        if getattr(arguments, option):
            raise UsageError(
                f"plan: --{option} is of one recipe and does not go with --all",
                f"name a recipe in place of --all, or drop --{option}",
            )
    project = find_project()
    for file in project.misnamed():
        said = f"recipes/{file} is not planned: recipes are called NAME.yaml, in lower case"
        print(f"note: {printable(said)}", file=sys.stderr)
    surveyed = list(survey(project, arguments.policy_from))
    if arguments.json:
        print_json(survey_json(surveyed))
    else:
        print(fitted(survey_text(surveyed)))
    return exit_code(surveyed, detailed=arguments.detailed_exitcode)


def _run(arguments: argparse.Namespace) -> int:
    from slmcompile import api
    from slmcompile.recipe.project import find_project

    project = find_project()
    recipe, overrides = arguments.recipe, arguments.overrides
    if arguments.save_as:
        path = api.save_as(project, recipe, overrides, arguments.save_as)
        print(f"wrote {project.shown(path)}", file=sys.stderr)
        recipe, overrides = arguments.save_as, []
    work = partial(api.run, recipe, overrides, select=arguments.select or ())
    return _carry_out(work, arguments)


def _add_adapter(arguments: argparse.Namespace) -> int:
    from slmcompile import api

    name, left_out = api.add_adapter(arguments.export, arguments.recipe, name=arguments.name or "")
    for line in (f"wrote recipes/{name}.yaml", *left_out):
        print(line, file=sys.stderr)
    if arguments.no_run:
        if arguments.json:
            print_json({"format_version": "1.0", "recipe": name, "left_out": left_out})
        else:
            print(f"slmcompile run {name}")
        return Exit.DONE
    return _carry_out(partial(api.run, name), arguments)


def _apply(arguments: argparse.Namespace) -> int:
    from slmcompile import api

    return _carry_out(partial(api.apply, Path(arguments.file)), arguments)


def _carry_out(work: Callable[..., Any], arguments: argparse.Namespace) -> int:
    """Runs something that returns a ``RunResult`` and shows what came out, and no more."""
    from slmcompile.checks.judge import refusal
    from slmcompile.explain.plan_text import plan_text
    from slmcompile.explain.results import read_results, results_table, try_it
    from slmcompile.recipe.project import find_project

    project = find_project()
    to = sys.stderr if arguments.json else sys.stdout

    def table(results: Any) -> None:
        if results:
            print(f"\n{results_table(results)}\n", file=to)

    plans: list[Any] = []

    def on_plan(planned: Any) -> None:
        plans.append(planned)
        print(fitted(plan_text(planned), to), file=to, flush=True)

    try:
        result = work(policy_from=arguments.policy_from, on_plan=on_plan, progress=to)
    except SlmcompileError as error:
        if error.code == Exit.GATE_FAILED:
            table(read_results(project, plans[0].plan.stages()))
        refused = refusal(plans[0].findings, shown=to.isatty()) if plans else None
        raise refused or error from None
    if arguments.json:
        print_json(_result_json(result))
    else:
        table(result.artifacts)
        if result.report is None:
            print("selected stages are up to date; the report was not selected")
            return Exit.DONE
        print(f"report  {project.shown(result.report)}")
        if command := try_it(project, result.plan, result.artifacts):
            print(f"try     {command}")
    return Exit.DONE


def _result_json(result: Any) -> dict[str, Any]:
    return {
        "format_version": "1.0",
        "recipe": result.plan.recipe,
        "plan_id": result.plan.plan_id,
        "ran": [c.stage.address for c in result.changes if c.action == "run"],
        "restored": [c.stage.address for c in result.changes if c.action == "restore"],
        "artifacts": _artifacts_json(result.artifacts),
        "report": str(result.report) if result.report else None,
    }


def _artifacts_json(artifacts: Any) -> dict[str, Any]:
    """What was measured by artifact; of a recipe with adapters by those first."""
    found: dict[str, Any] = {}
    for each in artifacts:
        of_member = found.setdefault(each.member, {}) if each.member else found
        of_member[each.name] = {"path": each.path, **each.metrics}
    return found


def _sync(arguments: argparse.Namespace) -> int:
    from slmcompile.console.errors import StaleError
    from slmcompile.execution.last_overrides import how_to_clear
    from slmcompile.execution.sync import compile_recipe, sync, write_specs
    from slmcompile.recipe.project import find_project
    from slmcompile.state.emit import overrides_path

    project = find_project()
    if arguments.specs:
        write_specs(project, arguments.recipe)
        return Exit.DONE
    if bool(arguments.recipe) == arguments.all:
        raise UsageError("sync: name one recipe, or --all", "slmcompile sync --all")
    names = project.names() if arguments.all else [arguments.recipe]
    plans = [compile_recipe(project, name) for name in names]
    done = sync(project, plans, check=arguments.check)
    for path in done.written:
        print(f"{'stale' if arguments.check else 'wrote'} {path}")
    for path in done.removed:
        print(f"{'orphan' if arguments.check else 'removed'} {printable(path)}")
    if arguments.check and (done.written or done.removed):
        raise StaleError("generated files do not match the recipes", "run `slmcompile sync --all`")
    for plan in (each for each in plans if each.overrides):
        what = f"{overrides_path(plan.recipe)}: holds {' '.join(plan.overrides)} of the last run"
        if arguments.check:
            raise StaleError(what, how_to_clear(plan.recipe, plan.overrides))
        print(printable(f"note: {what}; the specs are with it"), file=sys.stderr)
    return Exit.DONE


def _exec(arguments: argparse.Namespace) -> int:
    from slmcompile.recipe.project import find_project
    from slmcompile.stages.runner import execute

    execute(find_project(), arguments.spec)
    return Exit.DONE


def _show(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import show
    from slmcompile.explain.sides import is_plan_file
    from slmcompile.recipe.project import find_project

    project = find_project()
    if is_plan_file(project, arguments.recipe):
        from slmcompile.cli.plan import show_plan

        return show_plan(Path(arguments.recipe), as_json=arguments.json)
    shown = show.look(project, arguments.recipe)
    if arguments.json:
        print_json(show.to_json(shown))
    else:
        print("\n".join(printable(line) for line in show.text(shown).split("\n")))
    return Exit.DONE


def _generate(arguments: argparse.Namespace) -> int:
    from slmcompile.cli.generate import generate

    generate(
        arguments.recipe,
        arguments.target,
        arguments.text,
        arguments.max_new_tokens,
        adapter=arguments.adapter,
        file=arguments.file,
        as_json=arguments.json,
    )
    return Exit.DONE


def _chat(arguments: argparse.Namespace) -> int:
    from slmcompile.cli.generate import chat

    chat(arguments.recipe, arguments.target, arguments.max_new_tokens, arguments.adapter)
    return Exit.DONE


def _package(arguments: argparse.Namespace) -> int:
    from slmcompile.cli.package import package

    return package(arguments)


def _init(arguments: argparse.Namespace) -> int:
    from slmcompile.cli.hosting import hosting
    from slmcompile.cli.init import init
    from slmcompile.cli.own_recipe import first_recipe, options_of

    options = options_of(arguments)
    root = Path(arguments.folder or ".").resolve()
    if options.data and arguments.recipe:
        raise UsageError("init: --data and --recipe exclude one another", "choose one of them")
    hosted = hosting(root, arguments.host) if arguments.host else None
    more = hosted.readme() if hosted else ""
    own = first_recipe(root, options, more) if options.data else None
    if own is not None:
        print("\n".join(own.lines))
    done = init(arguments.recipe, root, own, hosted)
    lines = [*done.set_up, *(f"wrote {path}" for path in done.written)]
    print("\n".join(lines or ["nothing to do: all is there"]))
    if hosted:
        print("\n".join([f"to set on {hosted.host}:", *hosted.lines()]))
    there = f"cd {shlex.quote(arguments.folder)} && " if arguments.folder else ""
    then = "plan" if own else "run"
    print(f"next: {there}slmcompile {f'{then} {done.recipe}' if done.recipe else 'plan --all'}")
    return Exit.DONE


def _new(arguments: argparse.Namespace) -> int:
    from slmcompile.cli.own_recipe import further_recipe, options_of
    from slmcompile.recipe.project import find_project

    project = find_project()
    own = further_recipe(project, arguments.name, options_of(arguments))
    print("\n".join([*own.lines, *(f"wrote {path}" for path in own.write(project.root))]))
    print(f"next: slmcompile plan {own.name}")
    return Exit.DONE


def _schema(arguments: argparse.Namespace) -> int:
    from slmcompile.recipe.schema_files import answer

    print(answer(arguments.group, docs=arguments.docs, write=arguments.write), end="")
    return Exit.DONE


def _lock(arguments: argparse.Namespace) -> int:
    from slmcompile.lock.update import answer

    print(answer(arguments.recipes, upgrade=arguments.upgrade), end="")
    return Exit.DONE


def _drift(arguments: argparse.Namespace) -> int:
    from slmcompile.drift.look import answer

    found = answer(
        arguments.recipe,
        deep=arguments.deep,
        remote=arguments.remote,
        upstream=arguments.upstream,
        as_json=arguments.json,
    )
    return Exit.CHANGES if found else Exit.DONE


def _attest(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import provenance

    return provenance.attest(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import provenance

    return provenance.verify(arguments)


def _versions(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import versions

    command: Callable[[argparse.Namespace], int] = getattr(versions, arguments.command)
    return command(arguments)


def _ci(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import ci

    return ci.run(arguments)


def _targets(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from slmcompile.explain.capabilities import markdown, matrix
    from slmcompile.explain.targets import lines, targets_here

    if arguments.markdown:
        print(markdown(), end="")
        return Exit.DONE
    found = targets_here()
    if arguments.json:
        listed = [asdict(each) for each in found]
        print_json({"format_version": "1.1", "targets": listed, "families": matrix()})
    else:
        print("\n".join(lines(found)))
    return Exit.DONE


def _checks(arguments: argparse.Namespace) -> int:
    from slmcompile.checks.listing import listing

    if arguments.json or arguments.markdown:
        print(listing("json" if arguments.json else "markdown"))
    else:
        print(fitted(listing("text")))
    return Exit.DONE


def _overview(_: argparse.Namespace) -> int:
    from slmcompile.cli.overview import write_overview
    from slmcompile.recipe.project import find_project

    print(f"overview  {write_overview(find_project())}")
    return Exit.DONE


_TALKING = frozenset({"chat", "generate"})
"""Commands that do nothing but talk, and so end with their reader."""

_BRIEF = frozenset({"plan", "why", "diff", "show", "checks", "schema", "init", "new"})
"""Commands of one recipe or none, which leave no garbage worth a search."""

_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "add-adapter": _add_adapter,
    "apply": _apply,
    "why": _why,
    "diff": _diff,
    "sync": _sync,
    "exec": _exec,
    "show": _show,
    "generate": _generate,
    "chat": _chat,
    "package": _package,
    "init": _init,
    "new": _new,
    "lock": _lock,
    "drift": _drift,
    "attest": _attest,
    "verify": _verify,
    "versions": _versions,
    "promote": _versions,
    "rollback": _versions,
    "fetch": _versions,
    "ci": _ci,
    "schema": _schema,
    "targets": _targets,
    "checks": _checks,
    "overview": _overview,
}
