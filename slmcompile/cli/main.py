"""The command line: argument parsing and printing; every command is a function elsewhere.

Nothing heavier than argparse is imported before a command is known.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slmcompile.console import streams
from slmcompile.console.errors import Exit, SlmcompileError, UsageError
from slmcompile.console.printable import printable
from slmcompile.console.terminal import fitted, print_json, tell


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        mend = f"see `{self.prog} --help`"
        if message.startswith("the following arguments are required: recipe"):
            message, mend = "name a recipe", _recipes(self.prog)
        raise UsageError(f"{self.prog}: {message}", mend)


def _recipes(command: str) -> str:
    """What there is to name behind a command."""
    from slmcompile.recipe.project import find_project

    try:
        names = find_project().names()
    except UsageError as error:
        return error.mend
    if not names:
        return "write recipes/NAME.yaml, or run `slmcompile init`"
    return f"recipes are {', '.join(names)}: `{command} {names[0]}`"


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command line, and that of each command."""
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

    def add_overrides(command: argparse.ArgumentParser, text: str = "") -> None:
        command.add_argument(
            "overrides", nargs="*", metavar="key=value", help=f"Hydra overrides{text}"
        )

    plan = add("plan", "say what a run would do, and why; run nothing", recipe=False)
    plan.add_argument("recipe", nargs="?", help="name of recipes/NAME.yaml")
    plan.add_argument("--all", action="store_true", help="every recipe, a line each")
    add_overrides(plan)
    plan.add_argument("--json", action="store_true", help="for programs")
    plan.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help="exit 2 if there is something to do; with --against, if anything differs",
    )
    plan.add_argument(
        "--deep", action="store_true", help="read all rows, build the model without weights"
    )
    _add_select(plan, "show only these stages")
    plan.add_argument(
        "--against", metavar="REF", help="also say what differs from the recipe at a git revision"
    )
    plan.add_argument("--out", metavar="FILE", help="also write the plan, for `slmcompile apply`")
    run = add("run", "run what is not up to date and show what came out")
    add_overrides(run, ", which `dvc repro` and `show` take too until the next run")
    _add_select(
        run,
        "run only these stages, on their inputs as they are; what the cache holds is brought back,"
        " and an input that is missing or out of date is refused (exit 4): write +train for it",
    )
    for command in (plan, run):
        _add_policy(command)
    run.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    run.add_argument(
        "--save-as", metavar="NAME", help="make recipe + overrides a recipe NAME first"
    )
    _add_joining(add)
    _add_explaining(add, add_overrides)
    sync = add("sync", "write pipelines/ from the recipes", recipe=False)
    sync.add_argument("recipe", nargs="?", help="one recipe")
    sync.add_argument("--all", action="store_true", help="all recipes")
    sync.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit 4 if stale, or if a run has left overrides",
    )
    sync.add_argument("--specs", action="store_true", help=argparse.SUPPRESS)
    execute = add("exec", "run one stage from its spec file (DVC calls this)", recipe=False)
    execute.add_argument("spec", help="pipelines/R/plan/STAGE.json")
    show = add("show", "show the table of the last run, or a saved plan", recipe=False)
    show.add_argument("recipe", help="name of recipes/NAME.yaml, or a plan file")
    show.add_argument("--json", action="store_true", help="for programs")
    _add_talking(add)
    _add_starting(add)
    _add_upkeep(add)
    _add_ci(add)
    checks = add("checks", "list what is proved before anything is spent", recipe=False)
    checks.add_argument("--json", action="store_true", help="for programs")
    checks.add_argument("--markdown", action="store_true", help="as a Markdown table")
    add("overview", "write the overview page of all recipes", recipe=False)
    return parser, {**commands.choices}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of tokens, 1 or more")
    return int(text)


def _add_policy(command: argparse.ArgumentParser) -> None:
    command.add_argument("--policy-from", metavar="REF", help="take the policy from a git revision")


def _add_select(command: argparse.ArgumentParser, text: str) -> None:
    syntax = (
        "as dbt selects: train, 'answer-*', a kind (answer), +train with all before it,"
        " train+ with all behind it, '2+train' two steps; spaces or a second --select add,"
        " a comma intersects"
    )
    command.add_argument("--select", action="append", metavar="STAGES", help=f"{text}; {syntax}")


def _add_starting(add: Callable[..., argparse.ArgumentParser]) -> None:
    init = add(
        "init",
        "start a project here, or set up what one lacks: git, DVC and a first recipe",
        recipe=False,
    )
    init.add_argument(
        "--recipe",
        choices=("tiny", "quickstart", "assistant"),
        help="example to bring along (default: tiny, where there is no recipe)",
    )
    init.add_argument("folder", nargs="?", metavar="DIR", help="where; here by default")
    new = add("new", "write a further recipe, for data of your own", recipe=False)
    new.add_argument("name", metavar="NAME", help="the recipe's")
    for command in (init, new):
        _add_own_data(command)


def _add_own_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="JSON, JSON Lines, CSV or Parquet, plain or .gz, .zst: a recipe is written for it",
    )
    own = command.add_argument_group("where columns are not guessed, or wrongly")
    own.add_argument(
        "--text", dest="plain", default="", metavar="COLUMN", help="plain text, trained as it is"
    )
    own.add_argument("--prompt", action="append", default=[], metavar="COLUMN", help="what asks")
    for name, text in (
        ("answer", "what answers"),
        ("messages", "conversations"),
    ):
        own.add_argument(f"--{name}", default="", metavar="COLUMN", help=text)
    own.add_argument("--encoding", help="of text files, where it is not UTF-8: cp1252, …")
    own.add_argument("--delimiter", help="of CSV files, where it is not found: one character, tab")


def _add_joining(add: Callable[..., argparse.ArgumentParser]) -> None:
    join = add(
        "add-adapter",
        "make a new folder of an export's adapters and one of another recipe, which is taken as it"
        " was trained; neither is trained again, and the base is not built again",
        recipe=False,
    )
    join.add_argument(
        "export", help="a recipe, recipe/export-TARGET, or an export's folder: what it joins"
    )
    join.add_argument("recipe", help="name of the recipe of one adapter that joins it")
    join.add_argument("--name", metavar="NAME", help="the new recipe; EXPORT-RECIPE by default")
    join.add_argument("--no-run", action="store_true", help="write the recipe and run nothing")
    join.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    _add_policy(join)


def _add_explaining(
    add: Callable[..., argparse.ArgumentParser],
    add_overrides: Callable[[argparse.ArgumentParser], None],
) -> None:
    apply = add("apply", "run exactly a saved plan; exit 4 if anything changed", recipe=False)
    apply.add_argument("file", help="what `slmcompile plan R --out FILE` wrote")
    apply.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    _add_policy(apply)
    why = add("why", "say what a stage would run for, from the root cause on", recipe=False)
    why.add_argument("stage", metavar="recipe[/stage]", help="quickstart/train, or quickstart")
    add_overrides(why)
    why.add_argument("--json", action="store_true", help="for programs")
    diff = add("diff", "say what differs between two plans", recipe=False)
    for side in ("old", "new"):
        diff.add_argument(side, help="recipe, recipe@revision or plan file")
    diff.add_argument("--json", action="store_true", help="for programs")
    diff.add_argument("--detailed-exitcode", action="store_true", help="exit 2 if they differ")


def _add_talking(add: Callable[..., argparse.ArgumentParser]) -> None:
    for name, text in (
        ("generate", "stream an exported model's answer to a text"),
        ("chat", "talk to an exported model"),
    ):
        talk = add(name, text)
        talk.add_argument("--target", help="which export; the recipe's first one by default")
        talk.add_argument("--adapter", help="whose, of a recipe with several adapters")
        talk.add_argument(
            "--max-new-tokens", type=_count, default=256, metavar="N", help="256 by default"
        )
        if name == "generate":
            talk.add_argument(
                "text",
                help="what to say, or column=value for each column of the prompt; standard input"
                " where there is none",
                nargs="*",
            )
            talk.add_argument(
                "--file",
                metavar="FILE",
                help="answer each line, a text or a JSON object of columns; - is standard input",
            )
            talk.add_argument("--json", action="store_true", help="an object a line, for programs")


def _add_upkeep(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands that keep a project as its committed files say it is."""
    lock = add("lock", "write down the exact versions that recipes refer to", recipe=False)
    lock.add_argument("recipes", nargs="*", metavar="recipe", help="recipes; all by default")
    lock.add_argument("--upgrade", action="store_true", help="look again at what is locked")
    drift = add("drift", "say what is no longer as committed; exit 2 if anything", recipe=False)
    drift.add_argument("recipe", nargs="?", help="one recipe; all by default")
    drift.add_argument(
        "--deep",
        action="store_true",
        help="read every byte of the outputs; without it their files' names and sizes",
    )
    drift.add_argument("--remote", action="store_true", help="ask the default DVC remote too")
    drift.add_argument("--upstream", action="store_true", help="ask the hub for moved branches")
    drift.add_argument("--json", action="store_true", help="for programs")
    schema = add("schema", "print the JSON Schema of recipes or of a group", recipe=False)
    form = schema.add_mutually_exclusive_group()
    form.add_argument("--recipe", action="store_true", help="of recipes (the default)")
    form.add_argument("--group", help="of conf/GROUP/*.yaml")
    form.add_argument("--docs", action="store_true", help="print every key as Markdown instead")
    form.add_argument("--write", action="store_true", help="write all into the project's schema/")


def _add_ci(add: Callable[..., argparse.ArgumentParser]) -> None:
    """What the jobs of a pull request call."""
    ci = add("ci", "what the jobs of a pull request call", recipe=False)
    jobs = ci.add_subparsers(dest="job", metavar="JOB", required=True)
    text = "write what a pull request would change, from git alone; run nothing"
    plan = jobs.add_parser("plan", help=text, description=text)
    plan.add_argument(
        "--against",
        metavar="REF",
        required=True,
        help="the tip of the branch that it goes to, whose policy holds",
    )
    plan.add_argument("--head", metavar="REF", default="HEAD", help="what it proposes; HEAD")
    plan.add_argument("--out", metavar="FILE", help="write it here and not to standard output")
    plan.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 if a recipe is touched"
    )
    text = "print what `ci plan` wrote as a comment in Markdown"
    comment = jobs.add_parser("comment", help=text, description=text)
    comment.add_argument(
        "file", help="of whatever origin; a .zip is searched for proposal.json and not unpacked"
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses; words may stand before and behind options, which argparse alone cannot do."""
    parser, commands = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-") and words[0] not in commands:
        from slmcompile.recipe.project import nearest

        mend = nearest("commands:", words[0], list(commands))
        raise UsageError(f"slmcompile: {words[0]!r} is no command", mend)
    arguments, rest = parser.parse_known_args(words)
    taken = getattr(arguments, "text", getattr(arguments, "overrides", None))
    unknown = [word for word in rest if word.startswith("-") or taken is None]
    if unknown:
        raise _unknown(commands[arguments.command], unknown[0])
    if taken is not None:
        taken += rest
    for word in getattr(arguments, "text", ()):
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            encoding = sys.getfilesystemencoding()
            raise UsageError(f"{word}: is not {encoding}", f"write it in {encoding}")
    return arguments


def _unknown(command: argparse.ArgumentParser, word: str) -> UsageError:
    mend = f"see `{command.prog} --help`"
    if not word.startswith("-"):
        return UsageError(f"{command.prog}: {word} is one word too many", mend)
    from difflib import get_close_matches

    name = word.partition("=")[0]
    options = sorted(set(re.findall(r"(?<!\S)\[?(--[a-z][a-z-]+)", command.format_help())))
    near = get_close_matches(name, options, n=1)
    return UsageError(
        f"{command.prog}: {name} is not an option", f"did you mean {near[0]}?" if near else mend
    )


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
        arguments = _arguments(argv)
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


def _init(arguments: argparse.Namespace) -> int:
    from slmcompile.cli.init import init
    from slmcompile.cli.own_recipe import first_recipe, options_of

    options = options_of(arguments)
    root = Path(arguments.folder or ".").resolve()
    if options.data and arguments.recipe:
        raise UsageError("init: --data and --recipe exclude one another", "choose one of them")
    own = first_recipe(root, options) if options.data else None
    if own is not None:
        print("\n".join(own.lines))
    done = init(arguments.recipe, root, own)
    lines = [*done.set_up, *(f"wrote {path}" for path in done.written)]
    print("\n".join(lines or ["nothing to do: all is there"]))
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


def _ci(arguments: argparse.Namespace) -> int:
    from slmcompile.cli import ci

    return {"plan": ci.plan, "comment": ci.comment}[arguments.job](arguments)


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
    "init": _init,
    "new": _new,
    "lock": _lock,
    "drift": _drift,
    "ci": _ci,
    "schema": _schema,
    "checks": _checks,
    "overview": _overview,
}
