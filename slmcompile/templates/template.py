"""What is to be known of a template before any row is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from slmcompile.registry.section import Section


class TemplateKeys(Section):
    """How a row becomes a prompt and an answer."""

    type: str = Field(description="Which template.")


@dataclass(frozen=True)
class Template:
    """One way to make text of a row.

    Attributes:
        name: as in ``data.template.type``.
        place: behind which others it is listed.
        section: its keys of ``data.template``, and no others.
        program: ``package.module:NAME`` of a ``slmcompile.data.template_program.TemplateProgram``.
            A plan runs it over the first rows, so importing it imports nothing heavy.
        prompt: its key that writes the prompt, where messages point.
        texts: its format strings over the row's columns, by key; the prompt's first.
        columns: the columns that its other keys name, by key.
        chat: whether the tokenizer's chat template writes it.
        one_example: whether a row is one example at most.
        every_turn: whether tokens before the last answer may be trained too.
        asks: whether rows have a prompt and an answer, which is generated and judged; else they are
            plain text, of which likelihoods alone are measured.
        together: blocks of rows (``data.spill``) that are rendered at a time, whatever is in the
            others; None where a row's text depends on all of them.
        epoch: raised by hand when it writes another text of an equal row.
    """

    name: str
    place: int
    section: type[TemplateKeys]
    program: str
    prompt: str
    texts: Callable[[Any], Mapping[str, str]] = lambda _: {}
    columns: Callable[[Any], Mapping[str, str]] = lambda _: {}
    chat: bool = False
    one_example: bool = True
    every_turn: bool = False
    asks: bool = True
    together: int | None = None
    epoch: int = 1
