"""Plain text, all of it trained: the template ``completion``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from slmcompile.data.guard import Guard, literals
from slmcompile.data.rows import Rendered, Rendering, SourceRow, Stop, as_text
from slmcompile.data.template import fill, parse, without_end
from slmcompile.data.template_program import FilledIn, Renamed, TemplateProgram
from slmcompile.data.tokenizer import Tokenizer, token_text
from slmcompile.templates.completion import CompletionTemplate
from slmcompile.templates.template import TemplateKeys

_KEY = "data.template.text"


class _Completion(FilledIn):
    def render(
        self,
        rows: Sequence[SourceRow],
        template: CompletionTemplate,
        renamed: Renamed,
        tokenizer: Tokenizer,
        guard: Guard,
        _answer: Callable[[str], str],
    ) -> Rendering:
        """See ``TemplateProgram``; serving gives the model any text to go on from."""
        stop = Stop(tokenizer.eos_token_id, token_text(tokenizer, tokenizer.eos_token_id))
        pieces = without_end(parse(template.text, _KEY), stop.text)
        own = guard.controls.count(literals(pieces))

        def rendered(number: int, row: SourceRow) -> Rendered:
            text = guard.fill(pieces, row, renamed)
            guard.require(text, own, row.where)
            found = guard.lift(Rendered(row, "", text, source=number))
            return replace(found, document=found.completion)

        found = [rendered(number, row) for number, row in enumerate(rows)]
        return Rendering(found, stop, "{text}", ("text",))

    def spell(
        self, row: SourceRow, template: CompletionTemplate, renamed: Renamed, guard: Guard
    ) -> None:
        """See ``TemplateProgram``."""
        guard.fill(parse(template.text, _KEY), row, renamed)

    def answer(self, row: SourceRow, template: CompletionTemplate, renamed: Renamed) -> str:
        """The whole text."""
        return fill(parse(template.text, _KEY), lambda name: as_text(row, name, renamed))

    def typed(
        self,
        _text: Rendered,
        _template: TemplateKeys,
        _renamed: Renamed,
        _columns: Sequence[str],
    ) -> dict[str, str] | None:
        """None: nobody is asked anything."""
        return None


COMPLETION: TemplateProgram = _Completion()
