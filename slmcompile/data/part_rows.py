"""The rows of one source as texts: read, stepped and rendered with what is its own.

What goes wrong with a source of several is said with that source's key in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import BadDataError, SlmcompileError
from slmcompile.console.progress import Progress
from slmcompile.data.control_tokens import ControlTokens
from slmcompile.data.encode import prefix_ids
from slmcompile.data.formats import ReadFile, how_read
from slmcompile.data.guard import guard_of
from slmcompile.data.normal_label import normal_answer
from slmcompile.data.render import render
from slmcompile.data.rows import Rendered, Rendering, SourceRow
from slmcompile.data.source import read
from slmcompile.data.steps import Done, stepped
from slmcompile.data.store import Row
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.recipe.data_parts import Part
from slmcompile.recipe.schema import Data
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
    rows: Mapping[Split, Sequence[SourceRow]]
    files: Sequence[ReadFile]
    steps: Sequence[Done]


@dataclass(frozen=True, slots=True)
class PartRows:
    """A source's rows as texts.

    Attributes:
        read: they before the template.
        rendering: the texts, in the order of the rows.
        origin: the split that the source gives each text's row in.
        prefix: ids before every prompt.
    """

    read: Read
    rendering: Rendering
    origin: Sequence[Split]
    prefix: Sequence[int]

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
        """The splits that are taken from its train rows; of replay no validation."""
        wanted = SPLITS if self.part.counted else ("train", "test")
        return tuple(split for split in wanted if split not in self.read.rows)


class Texts:
    """What every row was made of, by the row."""

    def __init__(self, made: Mapping[int, tuple[Rendered, PartRows]]) -> None:
        self._made = made

    def text(self, row: Row) -> Rendered:
        """Its text."""
        return self._made[row.id][0]

    def of(self, row: Row) -> PartRows:
        """The rows that it is one of."""
        return self._made[row.id][1]


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
        rows, done = stepped(found.of, part.steps, part.columns)
    return Read(part, rows, found.files, done)


def render_part(
    read: Read, config: Data, tokenizer: Tokenizer, controls: ControlTokens
) -> PartRows:
    """Renders a source's rows by its template."""
    part = read.part
    every = [row for rows in read.rows.values() for row in rows]
    split_of = [split for split, rows in read.rows.items() for _ in rows]
    written_by_templates = [part.template.model_dump(), tokenizer.chat_template]
    with placed(part):
        guard = guard_of(controls, config.special_tokens, every, written_by_templates)
        rendering = render(
            every, part.template, part.columns, tokenizer, guard, _normal_answer(part, config)
        )
    origin = [split_of[each.source] for each in rendering.rows]
    template = TEMPLATES[part.template.type]
    prefix = [] if template.chat else prefix_ids(tokenizer)
    if not template.asks:
        # The first token is trained too, and follows what ends the text before it.
        prefix = prefix or [rendering.stop.id]
    return PartRows(read, rendering, origin, prefix)


def _normal_answer(part: Part, config: Data) -> Callable[[str], str]:
    """Labels are the task's; what is there against forgetting stays as it is."""
    steps = config.label_steps if part.counted else ()
    return lambda text: normal_answer(text, config.label, steps)
