"""Whole conversations in the tokenizer's chat template: the template ``messages``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from slmcompile.data import chat
from slmcompile.data.conversations import guarded, read_conversation, reasoning_apart
from slmcompile.data.guard import Guard
from slmcompile.data.rows import Rendered, Rendering, SourceRow
from slmcompile.data.template_program import Renamed, TemplateProgram
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.templates.messages import MessagesTemplate


@dataclass(frozen=True)
class _Messages:
    thinking: bool | None = None

    def with_thinking(self, *, on: bool) -> TemplateProgram:
        """See ``Thinks``."""
        return replace(self, thinking=on)

    def render(
        self,
        rows: Sequence[SourceRow],
        template: MessagesTemplate,
        renamed: Renamed,
        tokenizer: Tokenizer,
        guard: Guard,
        answer: Callable[[str], str],
    ) -> Rendering:
        """See ``TemplateProgram``."""
        return chat.render(
            rows, template, renamed, tokenizer, guard, answer, thinking=self.thinking
        )

    def look(
        self,
        row: SourceRow,
        template: MessagesTemplate,
        renamed: Renamed,
        _column: str,
    ) -> None:
        """That the column holds a conversation."""
        read_conversation(row, template, renamed)

    def spell(
        self, row: SourceRow, template: MessagesTemplate, renamed: Renamed, guard: Guard
    ) -> None:
        """See ``TemplateProgram``."""
        conversation = read_conversation(row, template, renamed)
        guarded(reasoning_apart(conversation, guard.controls), row, guard)

    def answer(self, row: SourceRow, template: MessagesTemplate, renamed: Renamed) -> str:
        """The last trained turn without its ends, which chat templates trim."""
        last = read_conversation(row, template, renamed).messages[-1]
        return str(last.get("content", "")).strip()

    def given(
        self,
        text: Rendered,
        _template: MessagesTemplate,
        _renamed: Renamed,
        _columns: Sequence[str],
    ) -> str:
        """What the user says."""
        return "\n".join(each["content"] for each in text.asked if each["role"] == "user")

    def typed(
        self,
        text: Rendered,
        template: MessagesTemplate,
        _renamed: Renamed,
        _columns: Sequence[str],
    ) -> dict[str, str] | None:
        """Of a conversation that is one question."""
        if [message["role"] for message in text.asked] != ["user"] or text.tools:
            return None
        return {template.column: text.asked[0]["content"]}


MESSAGES: TemplateProgram = _Messages()
