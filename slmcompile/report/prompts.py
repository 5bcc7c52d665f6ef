"""What every prompt has in common (the template), so that a reader sees only what differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Framing:
    """Text that stands before and after what differs from prompt to prompt."""

    prefix: str
    suffix: str

    def inner(self, prompt: str) -> str:
        """The part of a prompt that is its own."""
        if not prompt.startswith(self.prefix) or not prompt.endswith(self.suffix):
            return prompt
        return prompt[len(self.prefix) : len(prompt) - len(self.suffix)]


def framing(prompts: Iterable[str]) -> Framing:
    """The common frame of several different prompts; empty for fewer than two.

    The frame ends at a line or a word, so that prompts which happen to begin with the same letters
    keep them.
    """
    distinct = sorted(set(prompts))
    if len(distinct) < 2:
        return Framing("", "")
    prefix = _to_boundary(_common_start(distinct[0], distinct[-1]))
    backwards = sorted(prompt[len(prefix) :][::-1] for prompt in distinct)
    suffix = _common_start(backwards[0], backwards[-1])[::-1]
    starts = [at for at in (suffix.find("\n"), suffix.find("<|")) if at >= 0]
    return Framing(prefix, suffix[min(starts) :] if starts else "")


def _common_start(first: str, last: str) -> str:
    """What the first and the last of sorted strings share, and so all between them."""
    pairs = zip(first, last, strict=False)
    length = next((at for at, (one, other) in enumerate(pairs) if one != other), None)
    return first[: min(len(first), len(last)) if length is None else length]


def _to_boundary(prefix: str) -> str:
    for end in ("\n", "|>", ": "):
        at = prefix.rfind(end)
        if at >= 0:
            return prefix[: at + len(end)]
    return ""
