"""What a template's program does with rows, and what those that fill in columns have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from slmcompile.data.guard import Guard
from slmcompile.data.rows import Rendered, Rendering, SourceRow, as_text
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.templates.template import TemplateKeys

Renamed = Mapping[str, str]
"""``data.columns``: name in the template → name in the file."""


class TemplateProgram(Protocol):
    """A template at work; ``template`` is its section.

    All but ``render`` is done with a row alone, without a tokenizer, before anything is rendered.
    """

    def render(
        self,
        rows: Sequence[SourceRow],
        template: Any,
        renamed: Renamed,
        tokenizer: Tokenizer,
        guard: Guard,
        answer: Callable[[str], str],
        /,
    ) -> Rendering:
        """Every row as text; raises as ``slmcompile.data.render.render`` says."""

    def look(self, row: SourceRow, template: Any, renamed: Renamed, column: str, /) -> None:
        """Raises BadDataError where a column that the template names is not as it must be."""

    def spell(self, row: SourceRow, template: Any, renamed: Renamed, guard: Guard, /) -> None:
        """Raises ``guard.SpelledError`` where a value spells a control token."""

    def answer(self, row: SourceRow, template: Any, renamed: Renamed, /) -> str:
        """The row's answer, but for what a chat template makes of it; raises BadDataError."""

    def given(self, text: Rendered, template: Any, renamed: Renamed, columns: Sequence[str]) -> str:
        """The values that the prompt holds, without the template's own words."""

    def typed(
        self, text: Rendered, template: Any, renamed: Renamed, columns: Sequence[str], /
    ) -> dict[str, str] | None:
        """What a user would type for this prompt, by column; None where it is more than that."""


@runtime_checkable
class Thinks(Protocol):
    """A template that writes prompts in two ways, of which rows together say which it is."""

    def with_thinking(self, *, on: bool) -> TemplateProgram:
        """The template in one of them."""


class FilledIn:
    """Of templates that fill in columns: a user types their values."""

    def look(self, row: SourceRow, _template: TemplateKeys, renamed: Renamed, column: str) -> None:
        """See ``TemplateProgram``."""
        as_text(row, column, renamed)

    def given(
        self, text: Rendered, _template: TemplateKeys, renamed: Renamed, columns: Sequence[str]
    ) -> str:
        """See ``TemplateProgram``."""
        return "\n".join(as_text(text.row, name, renamed) for name in columns)

    def typed(
        self, text: Rendered, _template: TemplateKeys, renamed: Renamed, columns: Sequence[str]
    ) -> dict[str, str] | None:
        """See ``TemplateProgram``."""
        return {name: as_text(text.row, name, renamed) for name in columns}
