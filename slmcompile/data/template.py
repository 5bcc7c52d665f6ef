"""Format strings over a row's columns: ``{column}``, braces doubled to stand for themselves.

Only plain names: attributes, indexes, conversions and format specifications of ``str.format`` are
refused, because a template comes from somebody we do not know. Imports nothing heavy, so that the
compiler can check a template without a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter

from slmcompile.console.errors import BadRecipeError, RefusedError

# A brace, not of a pair, before a quote, a bracket or a line's end: JSON and not a column.
_OPENS_TEXT = re.compile(r"(?<!\{)(?:\{\{)*\{(?=\s*[\"'\[]|[ \t]*[\r\n])")
_BRACES = r"\{[^\s{}\"':,\[\]](?:[^{}\"':,\[\]\n]*[^\s{}\"':,\[\]])?\}|[{}]"


@dataclass(frozen=True, slots=True)
class Piece:
    """Literal text, then a field; ``field`` is None after the last literal."""

    literal: str
    field: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a filled template: a column's value, or literal text, whose ``column`` is None."""

    text: str
    column: str | None = None


def parse(template: str, key: str) -> tuple[Piece, ...]:
    """Splits a template into its pieces.

    Args:
        template: the format string.
        key: the recipe's key, for error messages (``data.template.prompt``).

    Raises:
        RefusedError: a field reaches into its value (``{x.y}``, ``{x[0]}``) (exit 77).
        BadRecipeError: unpaired braces, an empty field, a conversion or a format (exit 78).
    """
    literal_brace = _OPENS_TEXT.search(template)
    if literal_brace:
        raise BadRecipeError(
            f"{key}: the brace at {_at(template, literal_brace.end() - 1)} opens no column",
            f"double each brace that stands for itself: {doubled(template)}",
        )
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise BadRecipeError(
            f"{key}: a brace without its partner",
            f"double a brace that stands for itself: {doubled(template)}",
        ) from error
    pieces: list[Piece] = []
    for literal, field, spec, conversion in parsed:
        if pieces and pieces[-1].field is None:  # a doubled brace ends a literal of its own
            literal = pieces.pop().literal + literal  # noqa: PLW2901
        if field is not None:
            if any(mark in field for mark in ".[]"):
                raise RefusedError(
                    f"{key}: {{{field}}} reaches into a value",
                    "use a column's plain name; data.columns renames a column",
                )
            if spec or conversion:
                raise BadRecipeError(
                    f"{key}: {{{field}}} has a conversion or a format",
                    "write {column} alone, or double the braces",
                )
            if not field.strip():
                raise BadRecipeError(
                    f"{key}: an empty field {{}}", "name a column, or double the braces"
                )
        pieces.append(Piece(literal, field))
    return tuple(pieces)


def _at(template: str, place: int) -> str:
    line, column = template.count("\n", 0, place), place - template.rfind("\n", 0, place)
    return f"line {line + 1}, column {column}" if "\n" in template.strip() else f"column {column}"


def doubled(template: str) -> str:
    """A template as it was probably meant: ``{column}`` is one, every other brace is text.

    Pairs are pairs already, unless braces are left over so: ``}}`` may end an object in an object.
    """
    kept = re.sub(r"\{\{|\}\}|" + _BRACES, _double, template)
    every = re.sub(_BRACES, _double, template)
    return kept if _balanced(kept) or not _balanced(every) else every


def _double(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 else found[0] * 2


def _balanced(template: str) -> bool:
    """Whether as many braces that stand for themselves are opened as closed."""
    literal = "".join(piece[0] for piece in Formatter().parse(template))
    return literal.count("{") == literal.count("}")


def fields(pieces: tuple[Piece, ...]) -> tuple[str, ...]:
    """Names of the columns that a template needs, in order, each once."""
    return tuple(dict.fromkeys(piece.field for piece in pieces if piece.field is not None))


def parts(pieces: tuple[Piece, ...], value: Callable[[str], str]) -> list[Part]:
    """Literal text and, for every field, ``value(field)``, in turn; no two literals in a row."""
    found: list[Part] = []
    literal = ""
    for piece in pieces:
        literal += piece.literal
        if piece.field is not None:
            found += [Part(literal), Part(value(piece.field), piece.field)]
            literal = ""
    return [*found, Part(literal)]


def fill(pieces: tuple[Piece, ...], value: Callable[[str], str]) -> str:
    """The text with every field replaced by ``value(field)``; values are never parsed again."""
    return "".join(part.text for part in parts(pieces, value))


def without_end(pieces: tuple[Piece, ...], end: str) -> tuple[Piece, ...]:
    """A template that ends with the stop token, without it: every row would end with two."""
    *before, last = pieces or (Piece("", None),)
    if last.field is not None or not last.literal.endswith(end):
        return pieces
    return (*before, Piece(last.literal.removesuffix(end), None))


def escape(literal: str) -> str:
    """Text as a template writes it: braces doubled."""
    return literal.replace("{", "{{").replace("}", "}}")
