"""Plain prompt and completion: the template ``text``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmcompile.data.guard import Guard, literals
from slmcompile.data.rows import Rendered, Rendering, SourceRow, Stop, as_text
from slmcompile.data.template import fields, fill, parse, without_end
from slmcompile.data.template_program import FilledIn, Renamed, TemplateProgram
from slmcompile.data.tokenizer import Tokenizer, token_text
from slmcompile.templates.text import TextTemplate


class _Text(FilledIn):
    def render(
        self,
        rows: Sequence[SourceRow],
        template: TextTemplate,
        renamed: Renamed,
        tokenizer: Tokenizer,
        guard: Guard,
        answer: Callable[[str], str],
    ) -> Rendering:
        """See ``TemplateProgram``."""
        prompt = parse(template.prompt, "data.template.prompt")
        stop = Stop(tokenizer.eos_token_id, token_text(tokenizer, tokenizer.eos_token_id))
        completion = without_end(parse(template.completion, "data.template.completion"), stop.text)
        own = guard.controls.count(literals(completion))

        def rendered(number: int, row: SourceRow) -> Rendered:
            text = answer(guard.fill(completion, row, renamed))
            guard.require(text, own, row.where)
            return guard.lift(Rendered(row, guard.fill(prompt, row, renamed), text, source=number))

        found = [rendered(number, row) for number, row in enumerate(rows)]
        return Rendering(found, stop, template.prompt, fields(prompt))

    def spell(self, row: SourceRow, template: TextTemplate, renamed: Renamed, guard: Guard) -> None:
        """See ``TemplateProgram``."""
        guard.fill(parse(template.prompt, "data.template.prompt"), row, renamed)
        guard.fill(parse(template.completion, "data.template.completion"), row, renamed)

    def answer(self, row: SourceRow, template: TextTemplate, renamed: Renamed) -> str:
        """See ``TemplateProgram``."""
        completion = parse(template.completion, "data.template.completion")
        return fill(completion, lambda name: as_text(row, name, renamed))


TEXT: TemplateProgram = _Text()
