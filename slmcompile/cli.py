"""The command line: argument parsing and printing; every command is a function elsewhere.

Nothing heavier than argparse is imported before a command is known.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from slmcompile.errors import Exit, SlmcompileError, UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(f"{self.prog}: {message}", f"see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    from slmcompile import __version__

    parser = _Parser(
        prog="slmcompile",
        description="Compile, plan and run fine-tuning recipes for small language models.",
    )
    parser.add_argument("--version", action="version", version=f"slmcompile {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, *, recipe: bool = True) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        if recipe:
            command.add_argument("recipe", help="name of recipes/NAME.yaml")
        return command

    def add_overrides(command: argparse.ArgumentParser) -> None:
        command.add_argument("overrides", nargs="*", metavar="key=value", help="Hydra overrides")

    plan = add("plan", "say what a run would do, and why; run nothing")
    add_overrides(plan)
    plan.add_argument("--json", action="store_true", help="for programs")
    plan.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if there is something to do"
    )
    run = add("run", "run what is not up to date and show what came out")
    add_overrides(run)
    run.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    run.add_argument(
        "--save-as", metavar="NAME", help="make recipe + overrides a recipe NAME first"
    )
    sync = add("sync", "write pipelines/ from the recipes", recipe=False)
    sync.add_argument("recipe", nargs="?", help="one recipe")
    sync.add_argument("--all", action="store_true", help="all recipes")
    sync.add_argument("--check", action="store_true", help="write nothing; exit 4 if stale")
    sync.add_argument("--specs", action="store_true", help=argparse.SUPPRESS)
    execute = add("exec", "run one stage from its spec file (DVC calls this)", recipe=False)
    execute.add_argument("spec", help="pipelines/R/plan/STAGE.json")
    show = add("show", "show the table of the last run")
    show.add_argument("--json", action="store_true", help="for programs")
    for name, text in (
        ("generate", "stream an exported model's answer to a text"),
        ("chat", "talk to an exported model"),
    ):
        talk = add(name, text)
        talk.add_argument("--target", help="which export; the first one by default")
        talk.add_argument("--max-new-tokens", type=int, default=256)
        if name == "generate":
            talk.add_argument("text", help="what to say, or column=value pairs", nargs="+")
    init = add("init", "start a project here: git, DVC and a first recipe", recipe=False)
    init.add_argument(
        "--recipe",
        default="tiny",
        choices=("tiny", "quickstart"),
        help="example to begin with (default: tiny)",
    )
    add("overview", "write the overview page of all recipes", recipe=False)
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses; overrides may stand before and behind options, which argparse alone cannot do."""
    arguments, rest = _parser().parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(arguments, "overrides")]
    if unknown:
        raise UsageError(
            f"slmcompile {arguments.command}: {unknown[0]} is not an option",
            f"see `slmcompile {arguments.command} --help`",
        )
    if rest:
        arguments.overrides += rest
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    try:
        arguments = _arguments(argv)
        return int(_COMMANDS[arguments.command](arguments))
    except SlmcompileError as error:
        print(f"error: {error.what}", file=sys.stderr)
        if error.mend:
            print(f"  mend: {error.mend}", file=sys.stderr)
        return int(error.code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader has what it wanted; keep the interpreter from complaining at exit.
        sys.stdout = None
        return 128 + signal.SIGPIPE
    except Exception:  # noqa: BLE001 (the one case with a traceback, and exit 70)
        import traceback

        traceback.print_exc()
        print("error: this is a bug in slmcompile; please report the lines above", file=sys.stderr)
        return int(Exit.BUG)


def _plan(arguments: argparse.Namespace) -> int:
    from slmcompile import api
    from slmcompile.planning.text import plan_text

    planned = api.plan(arguments.recipe, arguments.overrides)
    if arguments.json:
        print(json.dumps(api.to_json(planned), indent=2, ensure_ascii=False))
    else:
        print(plan_text(planned))
    pending = any(change.action != "unchanged" for change in planned.changes)
    return Exit.CHANGES if arguments.detailed_exitcode and pending else Exit.DONE


def _run(arguments: argparse.Namespace) -> int:
    from slmcompile import api
    from slmcompile.planning.text import plan_text
    from slmcompile.project import find_project
    from slmcompile.results import read_results, results_table, try_it

    project = find_project()
    recipe, overrides = arguments.recipe, arguments.overrides
    if arguments.save_as:
        path = api.save_as(project, recipe, overrides, arguments.save_as)
        print(f"wrote {project.shown(path)}", file=sys.stderr)
        recipe, overrides = arguments.save_as, []
    to = sys.stderr if arguments.json else sys.stdout

    def table(plan: Any) -> None:
        results = read_results(project, plan)
        if results:
            print(f"\n{results_table(results)}\n", file=to)

    plans: list[Any] = []

    def on_plan(planned: api.PlannedRun) -> None:
        plans.append(planned.plan)
        print(plan_text(planned), file=to, flush=True)

    try:
        result = api.run(recipe, overrides, on_plan=on_plan, progress=to)
    except SlmcompileError as error:
        if error.code == Exit.GATE_FAILED:
            table(plans[0])
        raise
    if arguments.json:
        print(json.dumps(_result_json(result), indent=2, ensure_ascii=False))
    else:
        table(result.plan)
        print(f"report  {project.shown(result.report)}")
        print(f"try     {try_it(project, result.plan, result.artifacts)}")
    return Exit.DONE


def _result_json(result: Any) -> dict[str, Any]:
    return {
        "format_version": "1.0",
        "recipe": result.plan.recipe,
        "plan_id": result.plan.plan_id,
        "ran": [c.stage.address for c in result.changes if c.action == "run"],
        "restored": [c.stage.address for c in result.changes if c.action == "restore"],
        "artifacts": {
            artifact.name: {"path": artifact.path, **artifact.metrics}
            for artifact in result.artifacts
        },
        "report": str(result.report),
    }


def _sync(arguments: argparse.Namespace) -> int:
    from slmcompile.errors import StaleError
    from slmcompile.pipeline.sync import compile_recipe, sync, write_specs
    from slmcompile.project import find_project

    project = find_project()
    if arguments.specs:
        write_specs(project, arguments.recipe)
        return Exit.DONE
    if bool(arguments.recipe) == arguments.all:
        raise UsageError("sync: name one recipe, or --all", "slmcompile sync --all")
    names = project.names() if arguments.all else [arguments.recipe]
    done = sync(project, [compile_recipe(project, name) for name in names], check=arguments.check)
    for path in done.written:
        print(f"{'stale' if arguments.check else 'wrote'} {path}")
    for path in done.removed:
        print(f"{'orphan' if arguments.check else 'removed'} {path}")
    if arguments.check and (done.written or done.removed):
        raise StaleError("generated files do not match the recipes", "run `slmcompile sync --all`")
    return Exit.DONE


def _exec(arguments: argparse.Namespace) -> int:
    from slmcompile.project import find_project
    from slmcompile.stages.runner import execute

    execute(find_project(), arguments.spec)
    return Exit.DONE


def _show(arguments: argparse.Namespace) -> int:
    from slmcompile.api import last_plan
    from slmcompile.errors import MissingError
    from slmcompile.project import find_project
    from slmcompile.results import read_results, results_table

    project = find_project()
    results = read_results(project, last_plan(project, arguments.recipe))
    if not results:
        raise MissingError(
            f"{arguments.recipe}: nothing was measured yet",
            f"run `slmcompile run {arguments.recipe}`",
        )
    if arguments.json:
        measured = {result.name: {"path": result.path, **result.metrics} for result in results}
        print(json.dumps({"format_version": "1.0", "artifacts": measured}, indent=2))
    else:
        print(results_table(results))
    return Exit.DONE


def _generate(arguments: argparse.Namespace) -> int:
    from slmcompile.talk import generate

    generate(arguments.recipe, arguments.target, arguments.text, arguments.max_new_tokens)
    return Exit.DONE


def _chat(arguments: argparse.Namespace) -> int:
    from slmcompile.talk import chat

    chat(arguments.recipe, arguments.target, arguments.max_new_tokens)
    return Exit.DONE


def _init(arguments: argparse.Namespace) -> int:
    from slmcompile.init import init

    for path in init(arguments.recipe):
        print(f"wrote {path}")
    print(f"next: slmcompile run {arguments.recipe}")
    return Exit.DONE


def _overview(_: argparse.Namespace) -> int:
    from slmcompile.overview import write_overview
    from slmcompile.project import find_project

    print(f"overview  {write_overview(find_project())}")
    return Exit.DONE


_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "sync": _sync,
    "exec": _exec,
    "show": _show,
    "generate": _generate,
    "chat": _chat,
    "init": _init,
    "overview": _overview,
}
