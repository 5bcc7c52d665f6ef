"""Plain text without a question, for continued pre-training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.templates.template import Template, TemplateKeys


class CompletionTemplate(TemplateKeys):
    """Plain text that asks nothing: every token of it is trained, and the stop token behind it.

    A text longer than `data.max_length` becomes several rows, each of which goes on behind the last
    token of the one before; none of it is left out, and the stop token ends the last alone. What is
    measured of it is how likely the model finds it (perplexity, bits_per_byte).
    """

    type: Literal["completion"] = Field(description="Plain text, all of it trained.")
    text: str = Field(description="Format string over the row's columns: `{body}`.")


ENTRIES = (
    Template(
        name="completion",
        place=40,
        section=CompletionTemplate,
        program="slmcompile.data.template_completion:COMPLETION",
        prompt="text",
        texts=lambda keys: {"text": keys.text},
        one_example=False,
        every_turn=True,
        asks=False,
        together=1,
    ),
)
