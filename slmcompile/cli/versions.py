"""``versions``, ``promote``, ``rollback`` and ``fetch``; ``docs/versions.md`` has what they do."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.console.printable import printable, shortened
from slmcompile.console.terminal import fitted, print_json
from slmcompile.recipe.project import Project, find_project

if TYPE_CHECKING:
    from slmcompile.provenance.envelope import Sealed
    from slmcompile.versions.history import History, Version
    from slmcompile.versions.publish import Given

FORMAT_VERSION = "1.0"


@dataclass(frozen=True)
class _Shown:
    """A version, and what is stated of it or why that cannot be read."""

    version: Version
    stages: Sequence[str]
    sealed: Sealed | None
    problem: str

    @property
    def targets(self) -> list[str]:
        folders = {name.partition("/")[0] for name in self._of("subjects")}
        found = {name.removeprefix("export-") for name in folders if name.startswith("export-")}
        return sorted(found)

    @property
    def adapters(self) -> list[str]:
        """Of a recipe with several adapters, those that were measured."""
        names = self._of("metrics")
        return sorted({name.partition("/")[0] for name in names if "/" in name})

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._of("metrics")
        return {name: dict(values) for name, values in found.items()}

    def _of(self, name: str) -> Any:
        return getattr(self.sealed.statement, name) if self.sealed is not None else {}

    @property
    def failed(self) -> list[str]:
        gates = self.sealed.statement.gates if self.sealed is not None else ()
        return [gate.text for gate in gates if not gate.passed]


def versions(arguments: Namespace) -> int:
    """Shows the versions of a recipe, or of all."""
    from slmcompile.versions.history import read_history
    from slmcompile.versions.publish import shared_history
    from slmcompile.versions.remote_tags import Remote
    from slmcompile.versions.tag_objects import recipes_with_tags
    from slmcompile.versions.tags import require_recipe

    project = find_project()
    here = arguments.offline
    if arguments.recipe:
        names = [require_recipe(arguments.recipe)]
    elif here:
        names = recipes_with_tags(project.root)
    else:
        names = Remote(project.root, arguments.git_remote).recipes()
    found = []
    for name in names:
        if here:
            history = read_history(project.root, name)
        else:
            history = shared_history(project, name, arguments.git_remote)
        found.append((history, _looked_at(project, history)))
    if arguments.json:
        recipes = [_json(history, shown) for history, shown in found]
        print_json({"format_version": FORMAT_VERSION, "recipes": recipes})
    else:
        measured = bool(arguments.recipe)
        texts = [_text(history, shown, measured=measured) for history, shown in found]
        print(fitted("\n\n".join(texts) or "there are no versions yet"))
    return Exit.DONE


def promote(arguments: Namespace) -> int:
    """Gives a stage to a version."""
    from slmcompile.versions import publish

    given = publish.promote(
        find_project(),
        arguments.recipe,
        arguments.version,
        arguments.to,
        remote=arguments.git_remote,
    )
    return _told(given, arguments)


def rollback(arguments: Namespace) -> int:
    """Gives a stage back to a version that had it."""
    from slmcompile.versions import publish

    given = publish.roll_back(
        find_project(),
        arguments.recipe,
        arguments.to,
        arguments.stage,
        remote=arguments.git_remote,
    )
    return _told(given, arguments)


def _told(given: Given, arguments: Namespace) -> int:
    if arguments.json:
        print_json(
            {
                "format_version": FORMAT_VERSION,
                "recipe": given.version.recipe,
                "version": str(given.version.number),
                "stage": given.stage,
                "tag": given.tag or None,
                "before": str(given.before) if given.before else None,
            }
        )
    elif not given.tag:
        print(f"{given.version.shown} is {given.stage} already")
    else:
        before = f" (before: {given.before})" if given.before else ""
        print(f"{given.version.shown} is {given.stage} now{before}, by tag {given.tag}")
    return Exit.DONE


def fetch(arguments: Namespace) -> int:
    """Brings a version's files."""
    from slmcompile.versions.fetch import fetch as bring

    project = find_project()
    done = bring(
        project,
        arguments.version,
        target=arguments.target,
        to=Path(arguments.to).resolve() if arguments.to else None,
        source=arguments.source,
        remote=None if arguments.offline else arguments.git_remote,
        say=lambda text: print(printable(text), file=sys.stderr, flush=True),
    )
    if arguments.json:
        print_json(
            {
                "format_version": FORMAT_VERSION,
                "recipe": done.version.recipe,
                "version": str(done.version.number),
                "commit": done.version.commit,
                "statement": done.version.statement,
                "signed_by": done.keyid,
                "folder": str(done.folder),
                "folders": list(done.names),
                "fetched": list(done.new),
            }
        )
        return Exit.DONE
    if done.keyid is None:
        print(
            "note: the statement is held against its tag alone: the project trusts no key",
            file=sys.stderr,
        )
    word = "" if done.new else " already, every byte of it"
    print(f"{done.version.shown} is in {project.shown(done.folder)}{word}")
    for name in done.names:
        print(f"  {name}")
    return Exit.DONE


def _looked_at(project: Project, history: History) -> list[_Shown]:
    """Versions with their statements, the newest first."""
    from slmcompile.versions.statements import read_statement

    stages = history.stages()
    found = []
    for version in reversed(history.versions):
        sealed, problem = None, ""
        try:
            sealed = read_statement(project, version)
        except SlmcompileError as error:
            problem = error.what
        found.append(_Shown(version, stages.get(version.number, ()), sealed, problem))
    return found


def _json(history: History, shown: Sequence[_Shown]) -> dict[str, Any]:
    return {
        "recipe": history.recipe,
        "versions": [
            {
                "version": str(each.version.number),
                "stages": list(each.stages),
                "revoked": each.version.revoked or None,
                "commit": each.version.commit,
                "who": each.version.who,
                "when": _moment(each.version.when).isoformat(),
                "why": each.version.why,
                "statement": each.version.statement,
                "signed_by": each.sealed.keyid if each.sealed else None,
                "targets": each.targets,
                "adapters": each.adapters,
                "failed_gates": each.failed,
                "metrics": each.metrics,
                "problem": each.problem or None,
            }
            for each in shown
        ],
        "assignments": [
            {
                "stage": each.stage,
                "version": str(each.number),
                "given": each.given,
                "who": each.who,
                "when": _moment(each.when).isoformat(),
            }
            for each in history.assignments
        ],
        "not_versions": [{"tag": each.tag, "reason": each.reason} for each in history.refused],
    }


def _text(history: History, shown: Sequence[_Shown], *, measured: bool) -> str:
    parts = [f"{history.recipe}: no versions yet"]
    if shown:
        parts = [_table(history, shown)]
        if measured and (table := _measured(shown)):
            parts.append(table)
    if history.refused:
        told = [f"  {printable(each.tag)}: {printable(each.reason)}" for each in history.refused]
        parts.append("\n".join(["not versions, and used for nothing:", *told]))
    return "\n\n".join(parts)


def _table(history: History, shown: Sequence[_Shown]) -> str:
    rows = [[history.recipe, "stages", "when", "who", "targets", "adapters", "why"]]
    notes = []
    for each in shown:
        version = each.version
        if told := _note(each):
            notes.append(f"{version.number}: {printable(told)}")
        rows.append(
            [
                str(version.number),
                "taken back" if version.revoked else ", ".join(each.stages) or "–",
                f"{_moment(version.when):%Y-%m-%d %H:%M}",
                shortened(printable(version.who.partition(" <")[0]), 24),
                ", ".join(each.targets) or "–",
                ", ".join(each.adapters) or "–",
                shortened(printable(version.why), 72),
            ]
        )
    if not any(each.adapters for each in shown):
        rows = [[*row[:5], row[6]] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * max(len(line) for line in lines))
    return "\n".join([*lines, *notes])


def _note(each: _Shown) -> str:
    if each.version.revoked:
        return f"taken back: {each.version.revoked}"
    if each.problem:
        return each.problem
    return f"did not pass: {each.failed[0]}" if each.failed else ""


def _measured(shown: Sequence[_Shown]) -> str:
    """What was measured of every version, as ``show`` has it."""
    from slmcompile.explain.results import ArtifactResult, results_table
    from slmcompile.plans.artifacts import place

    results = [
        ArtifactResult(f"{each.version.number} {name}", each.metrics[name], None)
        for each in shown
        for name in sorted(each.metrics, key=place)
    ]
    return results_table(results) if results else ""


def _moment(seconds: int) -> datetime:
    # A tagger may say any date; the last that Python has stands for those behind it.
    return datetime.fromtimestamp(min(seconds, 253402300799), timezone.utc)
