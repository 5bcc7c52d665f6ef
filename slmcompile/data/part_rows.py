"""The rows of one source as texts: read, stepped and rendered with what is its own.

What goes wrong with a source of several is said with that source's key in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import BadDataError, SlmcompileError
from slmcompile.console.progress import Progress
from slmcompile.data.formats import ReadFile, how_read
from slmcompile.data.rows import Rendering, SourceRow
from slmcompile.data.source import read
from slmcompile.data.spill import Spill
from slmcompile.data.steps import Done, stepped
from slmcompile.recipe.data_parts import Part
from slmcompile.shapes.splits import SPLITS, Split
from slmcompile.templates import TEMPLATES


@dataclass(frozen=True, slots=True)
class Read:
    """A source's rows before the template.

    Attributes:
        part: which source.
        rows: by split that the source brings, behind all steps.
        files: what they were read from.
        steps: what each step did.
    """

    part: Part
    rows: Mapping[Split, Spill[SourceRow]]
    files: Sequence[ReadFile]
    steps: Sequence[Done]

    @property
    def missing(self) -> tuple[Split, ...]:
        """The splits that are taken from its train rows; of replay no validation."""
        wanted = SPLITS if self.part.counted else ("train", "test")
        return tuple(split for split in wanted if split not in self.rows)


@dataclass(frozen=True, slots=True)
class PartRows:
    """A source's rows as texts.

    Attributes:
        read: they before the template.
        rendering: how they were rendered; the texts lie elsewhere.
        prefix: ids before every prompt.
        texts: how many there are.
    """

    read: Read
    rendering: Rendering
    prefix: Sequence[int]
    texts: int

    @property
    def part(self) -> Part:
        """Which source."""
        return self.read.part

    @property
    def asks(self) -> bool:
        """Whether its rows have a prompt and an answer."""
        return TEMPLATES[self.part.template.type].asks

    @property
    def missing(self) -> tuple[Split, ...]:
        """The splits that are taken from its train rows."""
        return self.read.missing


@contextmanager
def placed(part: Part) -> Iterator[None]:
    """Errors name the source that they are of, with its own keys, where there are several."""
    try:
        yield
    except SlmcompileError as error:
        if not part.name:
            raise
        what = part.key(error.what)
        what = what if what.startswith("data.") else f"{part.at}: {what}"
        kind = BadDataError if isinstance(error, BadDataError) else SlmcompileError
        raise kind(what, part.key(error.mend), code=error.code, also=error.also) from error


def read_part(part: Part, project: Path, roots: Sequence[str], progress: Progress) -> Read:
    """Reads a source and takes its steps."""
    told = f"{part.name}: " if part.name else ""
    with placed(part):
        found = read(part.source, project, roots)
        for line in how_read(found.files):
            progress.say(f"{told}{line}")
        of = f" from {len(found.files)} files" if len(found.files) > 1 else ""
        progress.say(f"{told}{sum(map(len, found.of.values()))} rows read{of}")
        if not part.steps:
            return Read(part, _spilled(found.of), found.files, ())
        rows, done = stepped(found.of, part.steps, part.columns)
    return Read(part, _spilled(rows), found.files, done)


def _spilled(rows: Mapping[Split, Sequence[SourceRow]]) -> dict[Split, Spill[SourceRow]]:
    """Rows in blocks on a file, where they are not there already."""
    return {
        split: given if isinstance(given, Spill) else Spill.of(given)
        for split, given in rows.items()
    }
