"""The assistant's turns of conversations as a chat template writes them, before and after each.

Knows nothing of rows, tokens or what is trained of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.data.chat_render import Message, Outcome, Request, render_all
from slmcompile.data.conversations import Conversation
from slmcompile.data.rows import SourceRow
from slmcompile.data.tokenizer import Tokenizer

_LINKS = {"name", "tool_call_id"}
"""Fields by which a tool's answer points to its call; a template may do without."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One trained turn: the text that asks for it, and the text that ends with it.

    Attributes:
        end: index of its message.
        before: with the generation prompt, as serving sends it.
        after: with the turn.
    """

    end: int
    before: Outcome
    after: Outcome

    @property
    def error(self) -> str:
        """Why the chat template refused it; empty where it did not."""
        return self.before.error or self.after.error

    @property
    def follows(self) -> bool:
        """Whether the turn is written behind the text that asks for it."""
        return self.after.text.startswith(self.before.text)

    @property
    def written(self) -> str:
        """What the template writes of the turn, behind what asks for it."""
        return self.after.text[len(self.before.text) :]


def render_turns(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, *, thinking: bool = False
) -> list[list[Turn]]:
    """The trained turns of every conversation."""
    requests = [
        Request(each.messages[: end + after], open=not after, tools=each.tools)
        for each in conversations
        for end in each.trained
        for after in (False, True)
    ]
    outcomes = iter(render_all(tokenizer, requests, thinking=thinking))
    return [
        [Turn(end, next(outcomes), next(outcomes)) for end in each.trained]
        for each in conversations
    ]


def thinking_needed(turns: Sequence[Sequence[Turn]], again: Callable[[], list[list[Turn]]]) -> bool:
    """Whether answers follow their prompts only where the template's thinking is on.

    Reasoning families write an empty think block into the prompt where it is off, which an answer
    with reasoning of its own does not follow.
    """

    def all_follow(found: Sequence[Sequence[Turn]]) -> bool:
        return all(turn.error or turn.follows for each in found for turn in each)

    return not all_follow(turns) and all_follow(again())


def require_written(
    rows: Sequence[SourceRow],
    conversations: Sequence[Conversation],
    turns: Sequence[Sequence[Turn]],
    tokenizer: Tokenizer,
    *,
    thinking: bool,
) -> None:
    """That the chat template writes every field of a message, and the tools, that a row has.

    What it writes changes the text of the turn that the message leads to: each is rendered once
    without.

    Raises:
        BadDataError: the template knows no such field, so that it would be lost in silence.
    """
    asked: list[tuple[str, Turn]] = []
    requests: list[Request] = []
    for row, each, of_row in zip(rows, conversations, turns, strict=True):
        start = 0
        for turn in of_row:
            until = each.messages[: turn.end + 1]
            for number in range(start, turn.end + 1):
                for name, without in _without_a_field(until[number]):
                    asked.append((f"{row.where}: message {number}: {name}", turn))
                    changed = (*until[:number], without, *until[number + 1 :])
                    requests.append(Request(changed, open=False, tools=each.tools))
            start = turn.end + 1
        if each.tools:
            asked.append((f"{row.where}: the column of tools", of_row[-1]))
            requests.append(Request(each.messages, open=False))
    if not requests:
        return
    outcomes = render_all(tokenizer, requests, thinking=thinking)
    for (what, turn), other in zip(asked, outcomes, strict=True):
        if turn.after == other or (turn.after.error and not other.error):
            reason = f" ({turn.after.error})" if turn.after.error else ""
            raise BadDataError(
                f"{what} is not written by the model's chat template{reason}, and would be lost",
                "take it out of the row, write it into the content, or use a model whose template"
                " knows it",
            )


def _without_a_field(message: Message) -> list[tuple[str, dict[str, Any]]]:
    """Each field beside role and content, and the message without it."""
    plain = {"role", "content"} | (_LINKS if message["role"] == "tool" else set())
    return [
        (name, {key: value for key, value in message.items() if key != name})
        for name in message
        if name not in plain
    ]
