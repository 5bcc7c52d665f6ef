"""A recipe for a person's own data: what ``init --data`` and ``new`` write, and what they say.

Everything is read, guessed and looked for before anything is written, and nothing is overwritten.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slmcompile.cli import own_texts
from slmcompile.cli.own_data import Options, OwnData, bring, identifier, own_data, size
from slmcompile.console.errors import SlmcompileError, UsageError
from slmcompile.console.printable import printable
from slmcompile.data.column_roles import Chosen
from slmcompile.data.rows import listed
from slmcompile.files.artifact import write_text
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project, builtin_conf
from slmcompile.recipe.yaml_file import read_yaml
from slmcompile.registry.scalars import ID_PATTERN
from slmcompile.sources.of_data.file import FileData

_TRIAL = "conf/model/trial.yaml"
_LARGEST_TEXT = 4 << 20
"""Bytes of a data file that the trial's tokenizer is trained on."""


@dataclass(frozen=True)
class OwnRecipe:
    """A recipe that is still to be written.

    Attributes:
        name: the recipe's.
        group: the name of its groups in ``conf/data`` and ``conf/eval``.
        data: its files and what they are for; None where the groups are there already.
        texts: what to write, by project-relative path.
        lines: what to say of it.
    """

    name: str
    group: str
    data: OwnData | None
    texts: dict[str, str]
    lines: tuple[str, ...]

    def write(self, root: Path) -> list[str]:
        """Writes it; returns the paths of what was written.

        Raises:
            SlmcompileError: the project does not compose with it; then nothing of it is left.
        """
        brought = [] if self.data is None else [each.path for each in bring(root, self.data)]
        try:
            for path, text in self.texts.items():
                write_text(root / path, text)
            compose(Project(root), self.name)
        except SlmcompileError:
            for path in (*self.texts, *brought):
                (root / path).unlink(missing_ok=True)
            raise
        return [*brought, *self.texts]


def options_of(arguments: argparse.Namespace) -> Options:
    """What the command line says of the data.

    Raises:
        UsageError: columns of no data file, or an encoding or a delimiter that there is not.
    """
    chosen = Chosen(tuple(arguments.prompt), arguments.answer, arguments.messages, arguments.plain)
    found = Options(tuple(arguments.data), chosen, arguments.encoding, arguments.delimiter)
    if not found.data:
        if found != Options():
            raise UsageError(
                f"{arguments.command}: columns, encoding and delimiter are those of a data file",
                "name it: --data FILE",
            )
        return found
    try:
        FileData(
            type="file",
            path=found.data,
            encoding=found.encoding or "utf-8",
            delimiter=found.delimiter,
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = first["loc"][0]
        context = first.get("ctx", {})
        raise UsageError(
            f"--{'data' if option == 'path' else option} {first['input']!r}: {first['msg']}",
            str(context.get("mend", "")),
        ) from error
    return found


def first_recipe(root: Path, options: Options, more: str = "") -> OwnRecipe:
    """The recipe of a new project, called as its folder is, and a README that ends with ``more``.

    Raises:
        UsageError: a file of that name is there, or what columns are for is not clear (exit 64).
        BadDataError, RefusedError: the data cannot be read (exit 65, 77).
    """
    name = identifier(root.name) or "first"
    found = _of_data(root, name, own_data(root, options))
    if os.path.lexists(root / "README.md") or found.data is None:
        return found
    text = own_texts.readme(name, found.group, found.data) + more
    return OwnRecipe(name, found.group, found.data, {**found.texts, "README.md": text}, found.lines)


def further_recipe(project: Project, name: str, options: Options) -> OwnRecipe:
    """One more recipe of a project; without a data file for the data that it describes already.

    Raises:
        UsageError: no recipe's name, a file that is there, or more than one data set.
        BadDataError, RefusedError: the data cannot be read (exit 65, 77).
    """
    if not re.fullmatch(ID_PATTERN, name):
        raise UsageError(f"new {name!r}: not a recipe name", "use a-z, 0-9, - and _")
    if options.data:
        return _of_data(project.root, name, own_data(project.root, options))
    known = sorted(
        path.stem
        for path in (project.conf / "data").glob("*.yaml")
        if (project.conf / "eval" / path.name).is_file()
    )
    if len(known) != 1:
        which = f"there are {', '.join(known)}" if known else "conf/data describes none"
        raise UsageError(
            f"new {name}: for which data? {which}", f"slmcompile new {name} --data FILE"
        )
    return _of_groups(project.root, name, known[0], None)


def _of_data(root: Path, name: str, data: OwnData) -> OwnRecipe:
    group = data.name(otherwise=name)
    if any((builtin_conf() / kind / f"{group}.yaml").exists() for kind in ("data", "eval")):
        group = f"my-{group}"[:64]
    described = root / "conf" / "data" / f"{group}.yaml"
    # What a person says of columns now is not what the group says, or they would not say it.
    guessed = data.options.chosen == Chosen()
    if guessed and described.is_file() and (root / "conf" / "eval" / f"{group}.yaml").is_file():
        shown = f"conf/data/{group}.yaml"
        if read_yaml(described, shown).content.get("source") == data.source:
            return _of_groups(root, name, group, data)
    texts = {
        f"conf/data/{group}.yaml": own_texts.data_group(data, group),
        f"conf/eval/{group}.yaml": own_texts.eval_group(data, group),
        f"recipes/{name}.yaml": own_texts.recipe(name, group, data.guess),
    }
    _require_free(root, texts)
    if not os.path.lexists(root / _TRIAL):
        texts[_TRIAL] = own_texts.trial_model(_tokenizer_text(data))
    return OwnRecipe(name, group, data, texts, tuple(_told(data, group)))


def _of_groups(root: Path, name: str, group: str, data: OwnData | None) -> OwnRecipe:
    texts = {f"recipes/{name}.yaml": own_texts.recipe(name, group, data.guess if data else None)}
    _require_free(root, texts)
    line = f"data and eval: {group}, as conf/data/{group}.yaml and conf/eval/{group}.yaml say"
    return OwnRecipe(name, group, None, texts, (line,))


def _require_free(root: Path, texts: dict[str, str]) -> None:
    for path in texts:
        if os.path.lexists(root / path):
            raise UsageError(
                f"{path}: exists, and is not overwritten",
                "slmcompile new NAME --data FILE makes a recipe of another name"
                if path.startswith("recipes/")
                else "change it, or remove it and run again",
            )


def _tokenizer_text(data: OwnData) -> str:
    """Any text will do; the rows' own makes the fewest tokens of them."""
    first = data.files[0]
    plain = first.read.encoding == "utf-8" and first.read.compression is None
    return first.path if plain and first.size <= _LARGEST_TEXT else _TRIAL


def _told(data: OwnData, group: str) -> list[str]:
    guess = data.guess
    lines = [own_texts.how_read(data) + f"; columns {listed(guess.columns)}"]
    lines += [f"  guessed  {line}" for line in own_texts.what_for(guess)]
    if data.splits:
        lines += [f"  guessed  splits by the files' names: {', '.join(data.splits)}"]
    lines += [f"  look     {note}" for note in guess.notes]
    if guess.needs:
        lines.append(
            f"  look     rows hold {', '.join(guess.needs)}, which the chat template of"
            " smollm2-135m does not write: the data stage refuses them until `model` names one that"
            " does"
        )
    lines += [
        f"  chosen   max_length {guess.max_length}, as the longest row has {guess.longest:,}"
        " characters: a rough guide, tokens are counted by the data stage"
    ]
    if guess.too_long:
        lines += [f"  chosen   too_long: drop, for about {guess.too_long} rows are longer"]
    lines += [
        f"  chosen   {guess.epochs} epoch{'s' * (guess.epochs > 1)};"
        f" metrics {', '.join(own_texts.metrics_of(guess))}",
        f"  change   conf/data/{group}.yaml and conf/eval/{group}.yaml; for other columns"
        " remove them and say --prompt COLUMN --answer COLUMN, --messages COLUMN or --text COLUMN",
    ]
    lines += [
        f"copies {each.there} ({size(each.size)}) to {each.path}"
        for each in data.files
        if each.copied
    ]
    return [printable(line) for line in lines]
