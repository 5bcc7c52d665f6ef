"""The words of the command line: which commands and options there are, and what was typed.

Nothing heavier than argparse is imported here, and no command is known beyond its name.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from slmcompile.console.errors import UsageError


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
    _add_package(add)
    _add_starting(add)
    _add_upkeep(add)
    _add_provenance(add)
    _add_versions(add)
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
    hosts = init.add_mutually_exclusive_group()
    hosts.add_argument(
        "--github",
        dest="host",
        action="store_const",
        const="github",
        help="write workflows that plan, train and promote pull requests, and say what to set",
    )
    hosts.add_argument(
        "--gitlab",
        dest="host",
        action="store_const",
        const="gitlab",
        help="write a pipeline that plans merge requests; not tried on a GitLab",
    )
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


def _add_package(add: Callable[..., argparse.ArgumentParser]) -> None:
    package = add(
        "package",
        "write one archive of a measured export: model, card, sums and a program that answers",
    )
    package.add_argument("--target", help="which export; the recipe's first one by default")
    package.add_argument("--adapter", help="whose, of a recipe with several adapters")
    package.add_argument("--out", metavar="FILE", help="RECIPE-TARGET.zip here by default")
    package.add_argument("--json", action="store_true", help="for programs")


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
    targets = add(
        "targets", "list the hardware targets and what this machine can do with each", recipe=False
    )
    targets_form = targets.add_mutually_exclusive_group()
    targets_form.add_argument("--json", action="store_true", help="for programs, with families")
    targets_form.add_argument(
        "--markdown", action="store_true", help="print what each builds of which family instead"
    )
    schema = add("schema", "print the JSON Schema of recipes or of a group", recipe=False)
    form = schema.add_mutually_exclusive_group()
    form.add_argument("--recipe", action="store_true", help="of recipes (the default)")
    form.add_argument("--group", help="of conf/GROUP/*.yaml")
    form.add_argument("--docs", action="store_true", help="print every key as Markdown instead")
    form.add_argument("--write", action="store_true", help="write all into the project's schema/")


def _add_provenance(add: Callable[..., argparse.ArgumentParser]) -> None:
    attest = add("attest", "state what the last run was made from and what it made, and sign it")
    attest.add_argument(
        "--key",
        metavar="FILE",
        help="sign with this Ed25519 key in PEM; else with that in $SLMCOMPILE_SIGNING_KEY, if any",
    )
    attest.add_argument(
        "--out", metavar="FILE", help="write it here and not to pipelines/R/statement.json"
    )
    verify = add(
        "verify", "say whether outputs are what a signed statement says of them", recipe=False
    )
    verify.add_argument(
        "statement",
        metavar="FILE|recipe",
        help="a statement, or a recipe: its committed one, against all of its outputs",
    )
    verify.add_argument(
        "--key",
        action="append",
        metavar="PUB",
        help="trust this public key in PEM, and not those in conf/policy/keys",
    )
    verify.add_argument("--folder", metavar="DIR", help="hold this folder against it")
    verify.add_argument("--json", action="store_true", help="for programs")
    verify.add_argument(
        "--policy-from", metavar="REF", help="take the keys that are trusted from a git revision"
    )


def _add_versions(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands over the tags that are versions of recipes."""
    versions = add("versions", "show the versions of recipes, and which are in use", recipe=False)
    versions.add_argument("recipe", nargs="?", help="one recipe; all by default")
    promote = add("promote", "give a version a stage such as production; train nothing")
    promote.add_argument("version", nargs="?", metavar="VERSION", help="v1.2.0; the newest")
    promote.add_argument("--to", required=True, metavar="STAGE", help="production, staging, …")
    rollback = add("rollback", "give a stage back to the version that had it before")
    rollback.add_argument("--to", metavar="VERSION", help="one that had it earlier")
    rollback.add_argument("--stage", default="production", metavar="STAGE", help="production")
    fetch = add(
        "fetch", "bring what a version has trained and exported, and prove it", recipe=False
    )
    fetch.add_argument("version", help="recipe@stage or recipe@version: tiny@production")
    fetch.add_argument("--target", metavar="TARGET", help="this target's export alone")
    fetch.add_argument("--to", metavar="DIR", help="where; fetched/RECIPE-VERSION by default")
    fetch.add_argument(
        "--from", dest="source", default="main", metavar="REMOTE", help="DVC remote; main"
    )
    for command in (versions, promote, rollback, fetch):
        command.add_argument("--json", action="store_true", help="for programs")
        command.add_argument(
            "--git-remote", default="origin", metavar="NAME", help="who has the tags; origin"
        )
    for command in (versions, fetch):
        command.add_argument(
            "--offline", action="store_true", help="go by the tags that are here already"
        )


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
    text = "print or post what `ci plan` wrote as a comment in Markdown"
    comment = jobs.add_parser("comment", help=text, description=text)
    comment.add_argument(
        "file",
        nargs="?",
        help="of whatever origin; a .zip is searched for proposal.json and not unpacked; with"
        " --post by default what the run of the event has uploaded",
    )
    comment.add_argument(
        "--post", action="store_true", help="in the thread of the event's pull request"
    )
    text = "say whether the comment of the event approves of a training"
    authorise = jobs.add_parser("authorise", help=text, description=text)
    authorise.add_argument(
        "--against",
        metavar="REF",
        default="HEAD",
        help="the tip of the default branch, whose policy holds; HEAD",
    )
    text = "open, edit or close the issue of what is no longer as committed; exit 2 if anything"
    drift = jobs.add_parser("drift", help=text, description=text)
    drift.add_argument("--remote", action="store_true", help="ask the default DVC remote too")
    text = "say in the event's thread why a comment approves of nothing ($SLMCOMPILE_REFUSED)"
    jobs.add_parser("answer", help=text, description=text)
    for name, text in (
        ("train", "run what the event's comment approves of, in a tree of its own"),
        ("push", "commit what was trained, state and sign it, and say what came out"),
    ):
        job = jobs.add_parser(name, help=text, description=text)
        job.add_argument(
            "--against", metavar="REF", default="HEAD", help="the tip of the default branch; HEAD"
        )
        job.add_argument("--workspace", metavar="DIR", help="an empty folder; a temporary one")
        if name == "train":
            job.add_argument(
                "--every",
                metavar="SECONDS",
                type=float,
                default=10.0,
                help="after which what is finished, checkpoints too, goes to the store; 10",
            )
        if name == "push":
            job.add_argument("--record", metavar="SHA256", help="of what the training has left")
    text = "make versions of what a commit of the default branch brought; train nothing"
    promote = jobs.add_parser("promote", help=text, description=text)
    promote.add_argument("--commit", metavar="REF", default="HEAD", help="the commit; HEAD")
    promote.add_argument(
        "--to",
        metavar="STAGE",
        default="production",
        help="what a version behind the first one is given; production",
    )


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses; words may stand before and behind options, which argparse alone cannot do."""
    parser, commands = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-") and words[0] not in commands:
        from slmcompile.recipe.project import nearest

        mend = nearest("commands:", words[0], list(commands))
        raise UsageError(f"slmcompile: {words[0]!r} is no command", mend)
    arguments, rest = parser.parse_known_args(words)
    taken = getattr(arguments, "text", getattr(arguments, "overrides", None))
    if rest and getattr(arguments, "version", "") is None and not rest[0].startswith("-"):
        arguments.version = rest.pop(0)
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
