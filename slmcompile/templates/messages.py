"""Whole conversations in the tokenizer's own chat template."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.templates.template import Template, TemplateKeys


class MessagesTemplate(TemplateKeys):
    """The tokenizer's own chat template over a column of messages, OpenAI's or ShareGPT's.

    Every assistant turn is trained unless it has `weight: 0` or `train: false`; the last trained
    one is the reference in evaluation.
    """

    type: Literal["messages"] = Field(description="Whole conversations in one column.")
    column: str = Field(
        "messages",
        description="Column with the list of {role, content} or {from, value}, or its JSON text.",
    )
    tools: str | None = Field(
        "tools",
        description="Column with the list of tool schemas that a row offers; rows without it offer"
        " none. null offers none in any row.",
    )


ENTRIES = (
    Template(
        name="messages",
        place=30,
        section=MessagesTemplate,
        program="slmcompile.data.template_messages:MESSAGES",
        prompt="column",
        columns=lambda keys: {"column": keys.column},
        chat=True,
        one_example=False,
        every_turn=True,
        together=4,
    ),
)
