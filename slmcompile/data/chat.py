"""Conversations as training examples, rendered by the tokenizer's own chat template.

The prompt is what the template writes with the generation prompt; the completion is exactly what
it writes after that, up to the token that closes the turn. So training sees what serving sends.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from slmcompile.data.chat_render import Conversation, Message, Outcome, render_all
from slmcompile.data.control_tokens import strings
from slmcompile.data.guard import Guard, blank
from slmcompile.data.messages import (
    PROBE_ANSWER,
    chat_messages,
    field_mark,
    probe,
    read_messages,
)
from slmcompile.data.rows import Rendered, Rendering, SourceRow, Stop, as_text
from slmcompile.data.template import escape, fields, fill, parse
from slmcompile.data.tokenizer import Tokenizer, special_tokens, token_text
from slmcompile.errors import BadDataError, BadRecipeError
from slmcompile.recipe.schema import ChatTemplate, MessagesTemplate


@dataclass(frozen=True, slots=True)
class _Turn:
    """One assistant turn: the text before it, and the text that ends with it."""

    before: Outcome
    after: Outcome


def render(
    rows: Sequence[SourceRow],
    template: ChatTemplate | MessagesTemplate,
    renamed: Mapping[str, str],
    tokenizer: Tokenizer,
    guard: Guard,
    answer: Callable[[str], str],
) -> Rendering:
    """Renders every row as a conversation; ``answer`` changes the last message of each.

    Raises:
        BadDataError: a row's conversation is malformed, spells a control token or is refused by
            the chat template.
        BadRecipeError: there is no chat template, or it does not write a turn after its
            generation prompt, so that what is trained would not be what is served.
    """
    if isinstance(template, ChatTemplate):
        columns = fields(parse(template.user, "data.template.user"))
        conversations = [
            chat_messages(template, partial(guard.fill, row=row, renamed=renamed)) for row in rows
        ]
    else:
        columns = (template.column,)
        conversations = [
            [
                guard.value(message, f"{row.where}: message {number}")
                for number, message in enumerate(read_messages(row, template.column, renamed))
            ]
            for row in rows
        ]
    conversations = [_with_answer(messages, answer) for messages in conversations]
    question = probe(template, columns)
    blanks = {_form(messages): blank(messages) for messages in conversations}
    turns, pattern = _render_turns([question, *conversations, *blanks.values()], tokenizer)
    stop = _stop(turns[0][0], tokenizer)
    of_rows, of_blanks = turns[1 : 1 + len(rows)], turns[1 + len(rows) :]
    rendered = [
        guard.lift(_rendered(row, messages, turn, stop))
        for row, messages, turn in zip(rows, conversations, of_rows, strict=True)
    ]
    own = dict(zip(blanks, of_blanks, strict=True))
    for row, messages, turn in zip(rows, conversations, of_rows, strict=True):
        _require_own_tokens(row, messages, turn[-1], own[_form(messages)][-1], guard)
    roles = Counter(" ".join(each["role"] for each in messages) for messages in conversations)
    text = _prompt_text(pattern, columns)
    if isinstance(template, ChatTemplate) and not _writes(text, rendered, renamed):
        return Rendering(rendered, stop, None, columns, roles)
    return Rendering(rendered, stop, text, columns, roles)


def _form(messages: list[Message]) -> str:
    """What conversations have in common that differ in their texts alone."""
    return json.dumps(blank(messages), sort_keys=True, default=str)


def _require_own_tokens(
    row: SourceRow, messages: list[Message], turn: _Turn, blank_turn: _Turn, guard: Guard
) -> None:
    """That the control tokens of a conversation are the chat template's and the recipe's own."""
    if not blank_turn.after.error:
        recipes = sum(guard.count(text) for text in strings(messages))
        guard.require(turn.after.text, guard.count(blank_turn.after.text) + recipes, row.where)


def _with_answer(messages: list[Message], answer: Callable[[str], str]) -> list[Message]:
    *before, last = messages
    return [*before, {**last, "content": answer(last["content"])}]


def _render_turns(
    conversations: Sequence[list[Message]], tokenizer: Tokenizer
) -> tuple[list[list[_Turn]], str]:
    """Every assistant turn of every conversation, and the first conversation's prompt."""
    requests: list[Conversation] = []
    counts: list[int] = []
    for messages in conversations:
        ends = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        counts.append(len(ends))
        for end in ends:
            requests.append(Conversation(messages[:end], open=True))
            requests.append(Conversation(messages[: end + 1], open=False))
    outcomes = iter(render_all(tokenizer, requests))
    turns = [[_Turn(next(outcomes), next(outcomes)) for _ in range(count)] for count in counts]
    return turns, turns[0][0].before.text


def _stop(turn: _Turn, tokenizer: Tokenizer) -> Stop:
    """The token that closes an assistant turn.

    It is the first special token after the answer. Most instruct models call it their
    end-of-sequence token too; Gemma and Phi 3 do not, and would never stop on theirs.
    """
    if turn.before.error or turn.after.error or not turn.after.text.startswith(turn.before.text):
        reason = turn.before.error or turn.after.error or "the answer is not after the prompt"
        raise BadRecipeError(
            f"data.template: the chat template cannot write question and answer: {reason}",
            "use data.template.type=text (some models take no system turn)",
        )
    _, _, rest = turn.after.text[len(turn.before.text) :].partition(PROBE_ANSWER)
    found = [
        (rest.index(text), token)
        for token, text in special_tokens(tokenizer).items()
        if text in rest
    ]
    stop_id = min(found)[1] if found else tokenizer.eos_token_id
    return Stop(stop_id, token_text(tokenizer, stop_id))


def _rendered(row: SourceRow, messages: list[Message], turns: list[_Turn], stop: Stop) -> Rendered:
    for number, message in enumerate(messages):
        if stop.text in message["content"]:
            raise BadDataError(
                f"{row.where}: message {number} spells the stop token {stop.text}",
                "remove it; the chat template writes it",
            )
    answers = [_answer(row, turn, stop) for turn in turns]
    prompt = turns[-1].before.text
    trained: list[tuple[int, int]] = []
    for turn, answer in zip(turns[:-1], answers[:-1], strict=True):
        start, whole = len(turn.before.text), answer + stop.text
        if not prompt.startswith(turn.before.text + whole):
            raise BadDataError(
                f"{row.where}: the chat template writes an earlier turn otherwise later on",
                "keep one assistant turn a row",
            )
        trained.append((start, start + len(whole)))
    return Rendered(row, prompt, answers[-1], tuple(trained))


def _answer(row: SourceRow, turn: _Turn, stop: Stop) -> str:
    error = turn.before.error or turn.after.error
    if error:
        raise BadDataError(
            f"{row.where}: the chat template refuses the conversation: {error}",
            "correct the roles and their order",
        )
    if not turn.after.text.startswith(turn.before.text):
        raise BadDataError(
            f"{row.where}: the chat template does not write the answer after its prompt",
            "use data.template.type=text",
        )
    return turn.after.text[len(turn.before.text) :].partition(stop.text)[0]


def _prompt_text(pattern: str, columns: tuple[str, ...]) -> str:
    text = escape(pattern)
    for number, name in enumerate(columns):
        text = text.replace(field_mark(number), "{" + name + "}")
    return text


def _writes(text: str, rendered: Sequence[Rendered], renamed: Mapping[str, str]) -> bool:
    """Whether the format string gives every row's prompt (it may not: templates trim values)."""
    pieces = parse(text, "data.template.user")
    return all(
        fill(pieces, lambda name, row=each.row: as_text(row, name, renamed)) == each.prompt  # type: ignore[misc]
        for each in rendered
    )
