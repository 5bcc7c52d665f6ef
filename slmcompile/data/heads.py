"""How a source was rendered, out of how each of its blocks was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from slmcompile.data.rows import ConversationFacts, Rendering


def one_head(heads: Sequence[Rendering]) -> Rendering:
    """The rendering of a whole source without its rows, out of those of its blocks.

    Stop token and columns are the template's; a format string writes prompts if it writes those of
    every block.
    """
    first = heads[0]
    writes = all(head.prompt_text is not None for head in heads)
    return replace(
        first,
        prompt_text=first.prompt_text if writes else None,
        roles=sum((Counter(head.roles) for head in heads), Counter()),
        conversations=joined([head.conversations for head in heads]),
    )


def joined(facts: Sequence[ConversationFacts]) -> ConversationFacts:
    """Those of all sources as one; what the chat template writes is the same in all."""
    if len(facts) == 1:
        return facts[0]
    return ConversationFacts(
        untrained=sum(each.untrained for each in facts),
        cut=sum(each.cut for each in facts),
        one_a_turn=sum(each.one_a_turn for each in facts),
        examples=sum(each.examples for each in facts),
        thinking=any(each.thinking for each in facts),
        opening=next((each.opening for each in facts if each.opening), ""),
        dated=any(each.dated for each in facts),
        ignored=dict(sum((Counter(each.ignored) for each in facts), Counter())),
    )
