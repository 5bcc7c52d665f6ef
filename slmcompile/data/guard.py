"""What the recipe does with control tokens that its rows spell: ``data.special_tokens``.

Every value passes here before it is rendered. ``refuse`` names the first that spells a control
token; ``text`` puts a mark where it is to be cut, which goes through labels' normalisation and chat
templates with it and is taken out of the rendered text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.data.control_tokens import (
    ControlTokens,
    Spelling,
    free_mark,
    marked,
    split_at,
    unmarked,
)
from slmcompile.data.rows import Rendered, SourceRow, as_text
from slmcompile.data.template import Part, Piece, parts

AS_TEXT = "remove it, or set data.special_tokens=text to have it encoded as text"


class SpelledError(BadDataError):
    """A value spells a control token, and the recipe does not have it encoded as text (exit 65)."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Control tokens, and the mark for cuts; an empty mark refuses what would need one."""

    controls: ControlTokens
    mark: str = ""

    def fill(self, pieces: tuple[Piece, ...], row: SourceRow, renamed: Mapping[str, str]) -> str:
        """A template's text for one row, marked.

        Raises:
            SpelledError: a column spells a control token.
            BadDataError: one is missing or null.
        """
        filled = parts(pieces, lambda name: as_text(row, name, renamed))
        found = self.controls.spellings(filled)
        text = "".join(part.text for part in filled)
        return self._marked(text, found, lambda each: f"{row.where}: column {each.column!r}")

    def value(self, value: Any, where: str) -> Any:
        """A value of any form (text, list, object) with every text in it marked.

        Raises:
            SpelledError: one spells a control token; ``where`` says where it stands.
        """
        if isinstance(value, str):
            found = self.controls.spellings([Part(value, "")])
            return self._marked(value, found, lambda _: where)
        if isinstance(value, Mapping):
            return {self.value(key, where): self.value(each, where) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(each, where) for each in value]
        return value

    def _marked(self, text: str, found: Sequence[Spelling], where: Any) -> str:
        for each in found:
            if not self.mark or not each.divisible:
                raise SpelledError(
                    f"{where(each)} spells the control token {each.token}",
                    AS_TEXT if each.divisible else "remove it; one character cannot be cut",
                )
        return marked(text, (each.at for each in found), self.mark) if found else text

    def lift(self, each: Rendered) -> Rendered:
        """A rendered row without marks, its cuts in their place."""
        if not self.mark or (self.mark not in each.prompt and self.mark not in each.completion):
            return each
        prompt, prompt_cuts = unmarked(each.prompt, self.mark)
        completion, completion_cuts = unmarked(each.completion, self.mark)

        def moved(place: int) -> int:
            return place - each.prompt.count(self.mark, 0, place)

        return replace(
            each,
            prompt=prompt,
            completion=completion,
            trained=tuple((moved(start), moved(end)) for start, end in each.trained),
            prompt_cuts=prompt_cuts,
            completion_cuts=completion_cuts,
        )

    def count(self, text: str) -> int:
        """Control tokens that a tokenizer reads in a marked text, cut at its marks."""
        text, cuts = unmarked(text, self.mark)
        return self.controls.count(split_at(text, cuts))

    def require(self, text: str, own: int, where: str) -> None:
        """That a marked text holds no more control tokens than the template's own.

        Raises:
            BadDataError: a value became one on its way, in the case of its letters or in part.
        """
        if self.count(text) > own:
            raise BadDataError(
                f"{where}: a value becomes a control token where the template writes it",
                "remove from the row what spells one in another form (case, Unicode, in parts)",
            )


def guard_of(
    controls: ControlTokens, special_tokens: str, rows: Iterable[SourceRow], *others: Any
) -> Guard:
    """The guard of a data set; ``others`` are texts that its mark must not stand in either."""
    if special_tokens == "refuse":
        return Guard(controls)
    return Guard(controls, free_mark(chain((row.values for row in rows), others)))


def literals(pieces: Iterable[Piece]) -> list[str]:
    """A template's own text, between its fields."""
    return [part.text for part in parts(tuple(pieces), lambda _: "") if part.column is None]


def blank(value: Any, key: str = "") -> Any:
    """A message with its texts taken out: what a chat template makes of it is all its own.

    Roles and types stay, as templates ask for them, and what is empty stays so.
    """
    if isinstance(value, str):
        return value if key in {"role", "type"} or not value.strip() else "a"
    if isinstance(value, Mapping):
        return {name: blank(each, str(name)) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [blank(each) for each in value]
    return value
