"""One question and its answer in the tokenizer's own chat template."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.templates.template import Template, TemplateKeys


class ChatTemplate(TemplateKeys):
    """The tokenizer's own chat template over one user turn and one assistant turn."""

    type: Literal["chat"] = Field(description="One user turn and one assistant turn.")
    system: str | None = Field(
        None,
        description="System turn; null sends none, and some templates then add their own.",
    )
    user: str = Field(description="User turn: format string over the row's columns.")
    assistant: str = Field(description="Assistant turn, trained: format string over the columns.")


ENTRIES = (
    Template(
        name="chat",
        place=20,
        section=ChatTemplate,
        program="slmcompile.data.template_chat:CHAT",
        prompt="user",
        texts=lambda keys: {"user": keys.user, "assistant": keys.assistant},
        chat=True,
        together=4,
    ),
)
