"""One question and its answer in the tokenizer's chat template: the template ``chat``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from slmcompile.data import chat
from slmcompile.data.guard import Guard
from slmcompile.data.messages import chat_messages
from slmcompile.data.rows import Rendering, SourceRow, as_text
from slmcompile.data.template import fill, parse
from slmcompile.data.template_program import FilledIn, Renamed, TemplateProgram
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.templates.chat import ChatTemplate


@dataclass(frozen=True)
class _Chat(FilledIn):
    thinking: bool | None = None

    def with_thinking(self, *, on: bool) -> TemplateProgram:
        """See ``Thinks``."""
        return replace(self, thinking=on)

    def render(
        self,
        rows: Sequence[SourceRow],
        template: ChatTemplate,
        renamed: Renamed,
        tokenizer: Tokenizer,
        guard: Guard,
        answer: Callable[[str], str],
    ) -> Rendering:
        """See ``TemplateProgram``."""
        return chat.render(
            rows, template, renamed, tokenizer, guard, answer, thinking=self.thinking
        )

    def spell(self, row: SourceRow, template: ChatTemplate, renamed: Renamed, guard: Guard) -> None:
        """See ``TemplateProgram``."""
        chat_messages(template, partial(guard.fill, row=row, renamed=renamed))

    def answer(self, row: SourceRow, template: ChatTemplate, renamed: Renamed) -> str:
        """Without its ends, which chat templates trim."""
        assistant = parse(template.assistant, "data.template.assistant")
        return fill(assistant, lambda name: as_text(row, name, renamed)).strip()


CHAT: TemplateProgram = _Chat()
