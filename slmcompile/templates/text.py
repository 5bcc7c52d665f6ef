"""Plain prompt and completion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.templates.template import Template, TemplateKeys


class TextTemplate(TemplateKeys):
    """Prompt and completion as format strings over the row's columns: `{column}`."""

    type: Literal["text"] = Field(description="Plain prompt and completion.")
    prompt: str = Field(description="Format string over the row's columns; not trained.")
    completion: str = Field(description="Format string over the row's columns; trained, with EOS.")


ENTRIES = (
    Template(
        name="text",
        place=10,
        section=TextTemplate,
        program="slmcompile.data.template_text:TEXT",
        prompt="prompt",
        texts=lambda keys: {"prompt": keys.prompt, "completion": keys.completion},
        together=1,
    ),
)
