"""What every prompt has in common (the template), so that a reader sees only what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmcompile.data.template import parse


@dataclass(frozen=True, slots=True)
class Framing:
    """Text that stands before and after what differs from prompt to prompt."""

    prefix: str
    suffix: str

    def inner(self, prompt: str) -> str:
        """The part of a prompt that is its own."""
        both = len(self.prefix) + len(self.suffix)
        if (
            len(prompt) < both
            or not prompt.startswith(self.prefix)
            or not prompt.endswith(self.suffix)
        ):
            return prompt
        return prompt[len(self.prefix) : len(prompt) - len(self.suffix)]


def framing(prompt: Mapping[str, Any]) -> Framing:
    """The frame that the template puts around its columns.

    Args:
        prompt: content of ``prompt.json``; the frame is empty where only the model's chat template
            writes the prompt.
    """
    if not prompt.get("text"):
        return Framing("", "")
    pieces = parse(prompt["text"], "prompt.json: text")
    last = pieces[-1]
    return Framing(pieces[0].literal, last.literal if last.field is None else "")
