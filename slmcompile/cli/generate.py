"""``generate`` and ``chat``: text in, an exported model's text out, as an application would.

Answers go to standard output and nothing else does; what there is to say about them goes to
standard error.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import CorruptError, SlmcompileError, UsageError
from slmcompile.console.printable import printable
from slmcompile.console.terminal import tell
from slmcompile.data.asked import Values, form, of_lines, of_words
from slmcompile.execution.committed import (
    Committed,
    changed_since,
    made_as_asked,
    made_before,
    outdated,
    read_committed,
)
from slmcompile.execution.exports import find_export
from slmcompile.files import artifact
from slmcompile.files.safe_read import read_output_json
from slmcompile.models.adapter_layout import LAYOUT_FILE
from slmcompile.plans.artifacts import adapter_file, prompt_file
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.project import Project, find_project

if TYPE_CHECKING:
    from slmcompile.inference.protocol import ExportedModel

_HELP = """\
A line, then Enter, is answered; each by itself. Ctrl-D ends.
  /target [NAME]   talk to another export, or say which there are
  /adapter [NAME]  the same of a recipe's adapters
  /help            this
  /exit, /quit     end
A text that begins with / is written with a space before it."""


@dataclass(frozen=True)
class _Export:
    """An export that answers.

    Attributes:
        recipe: whose it is.
        adapter: which adapter's, of a recipe with several; else empty.
        target: its name.
        folder: where it lies.
        chosen: which adapter is to be chosen in the folder, of one with several; else empty.
        prompt: how its prompt is rendered.
    """

    recipe: str
    adapter: str
    target: str
    folder: Path
    chosen: str
    prompt: dict[str, Any]

    @property
    def command(self) -> str:
        """What asks it."""
        whose = f" --adapter {self.adapter}" if self.adapter else ""
        return f"slmcompile generate {self.recipe}{whose}"

    @property
    def columns(self) -> list[str]:
        """The columns that its prompt needs."""
        return list(self.prompt["columns"])


def generate(
    recipe: str,
    target: str | None,
    words: Sequence[str],
    max_new_tokens: int,
    *,
    adapter: str | None = None,
    file: str | None = None,
    as_json: bool = False,
) -> None:
    """Streams the answer to one text, or one answer after the other to the lines of a file.

    Args:
        recipe: whose export.
        target: which; the recipe's first one by default.
        words: the text, or ``column=value``.
        max_new_tokens: at which an answer is cut off.
        adapter: which, of a recipe with several.
        file: texts a line, or JSON rows; ``-`` is standard input, also where no text is given.
        as_json: one JSON object a line in place of the texts.

    Raises:
        UsageError: no such target, no text, or a column of the prompt is not given (exit 64).
        BadDataError: a line of the file has no text for the prompt (exit 65).
        MissingError: the target was never exported here (exit 69).
    """
    project = find_project()
    export = _find(project, recipe, adapter, target)
    asked = _asked(export, words, file)
    model = _load(export)
    answered = False
    for values in asked:
        answered = True
        _answer(export, model, values, max_new_tokens, as_json=as_json)
    if not answered:
        raise UsageError(
            f"{file or 'standard input'}: is empty",
            form(export.columns, export.command),
        )


def _asked(export: _Export, words: Sequence[str], file: str | None) -> Iterable[Values]:
    if words and file:
        raise UsageError("generate: a text and --file", "give one of the two")
    if words:
        return [of_words(words, export.columns, export.command)]
    if file and file != "-":
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"{file}: not UTF-8", "save the file as UTF-8") from error
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}", "name a file with texts") from error
        # All of it now: nothing is answered of a file with a broken line.
        return list(of_lines(lines, export.columns, file, rows=file.endswith(".jsonl")))
    if sys.stdin.isatty() and not file:
        raise UsageError("generate: no text", form(export.columns, export.command))
    return of_lines(sys.stdin, export.columns, "standard input")


def chat(recipe: str, target: str | None, max_new_tokens: int, adapter: str | None = None) -> None:
    """Answers line after line until the end of input; each answer stands alone."""
    project = find_project()
    export = _find(project, recipe, adapter, target)
    model = _load(export)
    person = sys.stdin.isatty()
    if person:
        print(_HELP, file=sys.stderr)
    values: Values = {}
    while True:
        column = next(name for name in export.columns if name not in values)
        single = len(export.columns) == 1
        line = _line("> " if single else f"{column}> ", person=person)
        if line is None:
            return
        if line.startswith("/"):
            command, _, name = line[1:].strip().partition(" ")
            if command in {"exit", "quit"}:
                return
            if command in {"target", "adapter"} and name.strip():
                with _told():
                    whose = name.strip() if command == "adapter" else export.adapter
                    which = export.target if command == "adapter" else name.strip()
                    before, export = export, _find(project, recipe, whose, which)
                    same = before.folder == export.folder
                    model, values = _load(export, model if same else None), {}
            else:
                _say(_of_command(project, export, command))
            continue
        values |= _of_line(line, column, export.columns)
        if single and not line.strip():
            values = {}
        elif len(values) == len(export.columns):
            with _told():
                _answer(export, model, values, max_new_tokens)
            values = {}


def _line(lead: str, *, person: bool) -> str | None:
    try:
        return input(lead if person else "")
    except EOFError:
        return None


def _of_line(line: str, column: str, columns: Sequence[str]) -> Values:
    """The value on a line: of the column that it names, or of the one that was asked for."""
    for name in columns:
        if line.startswith(f"{name}="):
            return {name: line[len(name) + 1 :]}
    return {column: line.removeprefix(" ") if line.startswith(" /") else line}


def _of_command(project: Project, export: _Export, command: str) -> str:
    if command == "help":
        return _HELP
    if command == "target":
        others = ", ".join(read_committed(project, export.recipe).targets)
        return f"this is {export.target}; there are {others}"
    if command == "adapter":
        adapters = read_committed(project, export.recipe).members
        there_are = f"this is {export.adapter}; there are {', '.join(adapters)}"
        return there_are if adapters else "the recipe has no adapters"
    return f"/{command} is no command; /help lists them"


@contextmanager
def _told() -> Iterator[None]:
    """In a conversation an error is said and not the end."""
    try:
        yield
    except SlmcompileError as error:
        tell(error)


def _find(project: Project, recipe: str, adapter: str | None, target: str | None) -> _Export:
    """An export that lies here; says on standard error which, and what is no longer so."""
    from slmcompile.inference.exported import provider_of

    found = find_export(project, recipe, adapter, target)
    rendered = prompt_file(found.chosen)
    # A weight of an adapter may be another one in a file that can be read.
    own = [LAYOUT_FILE, adapter_file(found.chosen)] if found.chosen else []
    provider = provider_of(artifact.read_manifest(found.folder), found.folder)
    computed = PROVIDERS[provider].computed_by
    artifact.verify_used(found.folder, [computed, rendered, *own])
    prompt = read_output_json(found.folder, rendered)
    if not isinstance(prompt, dict) or not prompt.get("columns"):
        raise CorruptError(f"{found.stage.out}/{rendered}: cannot be read", "export it again")
    targets = found.committed.targets
    if target is None and len(targets) > 1:
        _say(f"{found.target} answers, the first target of the recipe; --target names another of"
             f" {', '.join(targets)}")  # fmt: skip
    for note in _notes(project, found.committed, found.stage.address, found.stage.out):
        _say(note)
    return _Export(recipe, found.adapter, found.target, found.folder, found.chosen, prompt)


def _notes(project: Project, committed: Committed, address: str, out: str) -> Iterator[str]:
    command = f"`slmcompile run {committed.recipe}`"
    if over := " ".join(committed.overrides):
        if not made_as_asked(project, committed, [address]):
            again = shlex.join(["slmcompile", "run", committed.recipe, *committed.overrides])
            yield f"the last run was with {over} and has not made this; `{again}` does"
            return
        yield f"made with {over}; {command} is without"
    again = f"{command} makes it anew"
    behind = [
        each for through in outdated(project, committed)[address].values() for each in through
    ]
    if behind:
        yield f"{out} is {made_before(committed, behind)}; {again}"
    with suppress(SlmcompileError):  # what cannot be compiled is not needed to answer
        changed = changed_since(project, committed, address)
        if changed:
            yield f"{changed}; {again}"


def _say(note: str) -> None:
    print("\n".join(printable(line) for line in note.split("\n")), file=sys.stderr)


def _load(export: _Export, opened: ExportedModel | None = None) -> ExportedModel:
    """The model; one of the same folder that is open takes another adapter."""
    from slmcompile.inference.exported import open_exported, provider_of
    from slmcompile.inference.onnx_adapters import chosen

    adapter = chosen(export.folder, export.chosen)
    if opened is not None:
        return opened.with_adapter(adapter)
    provider = provider_of(artifact.read_manifest(export.folder), export.folder)
    return open_exported(provider, export.folder, adapter=adapter)


def _answer(
    export: _Export,
    model: ExportedModel,
    values: Values,
    max_new_tokens: int,
    *,
    as_json: bool = False,
) -> None:
    from slmcompile.data.prompt import prompt_pieces
    from slmcompile.inference.streamed_answer import Answer

    answer = Answer(model, prompt_pieces(export.prompt, values), max_new_tokens)
    if as_json:
        document = {
            "format_version": "1.0",
            "recipe": export.recipe,
            **({"adapter": export.adapter} if export.adapter else {}),
            "target": export.target,
            "values": values,
            "answer": "".join(answer),
            "tokens": answer.tokens,
            "cut_off": answer.cut_off,
        }
        print(json.dumps(document, ensure_ascii=True), flush=True)
    else:
        for piece in answer:
            print(piece, end="", flush=True)
        print(flush=True)
    if answer.cut_off:
        _say(f"(cut off at {answer.tokens} token{'s' * (answer.tokens > 1)})")
