"""Conversations as training examples, rendered by the tokenizer's own chat template.

The prompt is what the template writes with the generation prompt; the completion is exactly what
it writes after that, up to the token that closes the turn. So training sees what serving sends.
A conversation is one example that trains each of its turns, unless the template writes earlier
turns otherwise later on (Qwen 3 leaves their reasoning out): then each turn is an example.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from slmcompile.console.errors import BadDataError, BadRecipeError
from slmcompile.data.chat_render import template_text
from slmcompile.data.control_tokens import strings
from slmcompile.data.conversations import (
    Conversation,
    guarded,
    read_conversation,
    reasoning_apart,
)
from slmcompile.data.guard import Guard, blank
from slmcompile.data.messages import PROBE_ANSWER, chat_messages, field_mark, probe
from slmcompile.data.rows import (
    ConversationFacts,
    Rendered,
    Rendering,
    SourceRow,
    Stop,
    as_text,
)
from slmcompile.data.template import escape, fields, fill, parse
from slmcompile.data.tokenizer import Tokenizer, special_tokens, token_text
from slmcompile.data.turns import Turn, render_turns, require_written, thinking_needed
from slmcompile.templates.chat import ChatTemplate
from slmcompile.templates.messages import MessagesTemplate


def render(
    rows: Sequence[SourceRow],
    template: ChatTemplate | MessagesTemplate,
    renamed: Mapping[str, str],
    tokenizer: Tokenizer,
    guard: Guard,
    answer: Callable[[str], str],
    *,
    thinking: bool | None = None,
) -> Rendering:
    """Renders every row as a conversation; ``answer`` changes what is trained of each.

    Without ``thinking`` the rows say whether the chat template's is on.

    Raises:
        BadDataError: a row's conversation is malformed, spells a control token, says something that
            the chat template does not write, or is refused by it.
        BadRecipeError: there is no chat template, or it does not write a turn after its
            generation prompt, so that what is trained would not be what is served.
    """
    if isinstance(template, ChatTemplate):
        columns = fields(parse(template.user, "data.template.user"))
        given = [
            _whole(chat_messages(template, partial(guard.fill, row=row, renamed=renamed)))
            for row in rows
        ]
        conversations = given
    else:
        columns = (template.column,)
        given = [
            reasoning_apart(read_conversation(row, template, renamed), guard.controls)
            for row in rows
        ]
        conversations = [guarded(each, row, guard) for each, row in zip(given, rows, strict=True)]
    conversations = [_with_answer(each, answer) for each in conversations]
    forms = [_form(each) for each in conversations]
    blanks = {form: _blank(each) for form, each in zip(forms, conversations, strict=True)}
    every = [_whole(probe(template, columns)), *conversations, *blanks.values()]
    turns = render_turns(every, tokenizer, thinking=bool(thinking))
    on = partial(render_turns, every, tokenizer, thinking=True)
    if thinking is None:
        thinking = thinking_needed(turns[1:], lambda: on()[1:])
        turns = on() if thinking else turns
    (question,), of_rows, of_blanks = turns[0], turns[1 : 1 + len(rows)], turns[1 + len(rows) :]
    require_written(rows, conversations, of_rows, tokenizer, thinking=thinking)
    stop, closes = _stop(question, tokenizer)
    own = dict(zip(blanks, of_blanks, strict=True))
    rendered: list[Rendered] = []
    roles: Counter[str] = Counter()
    split = 0
    for number, (row, each, of_row) in enumerate(zip(rows, conversations, of_rows, strict=True)):
        for turn, blank_turn in zip(of_row, own[forms[number]], strict=True):
            _require_own_tokens(row, each, turn, blank_turn, guard)
        examples = list(_examples(row, each, of_row, stop, closes=closes))
        for end, example in examples:
            roles[" ".join(message["role"] for message in each.messages[: end + 1])] += 1
            messages = isinstance(template, MessagesTemplate)
            rendered.append(
                replace(
                    guard.lift(example),
                    source=number,
                    together=f"row {number}" if len(examples) > 1 else None,
                    asked=given[number].messages[:end] if messages else (),
                    tools=given[number].tools,
                )
            )
        split += len(examples) > 1
    text = _prompt_text(question.before.text, columns)
    writes = isinstance(template, MessagesTemplate) or _writes(text, rendered, renamed)
    facts = ConversationFacts(
        untrained=sum(each.untrained for each in given),
        cut=sum(each.cut > 0 for each in given),
        one_a_turn=split,
        examples=sum(each.together is not None for each in rendered),
        thinking=thinking,
        opening=question.written.partition(PROBE_ANSWER)[0].strip(),
        dated="strftime_now" in template_text(tokenizer, tools=any(each.tools for each in given)),
        ignored=dict(sum((Counter(each.ignored or {}) for each in given), Counter())),
    )
    return Rendering(rendered, stop, text if writes else None, columns, roles, facts)


def _whole(messages: Sequence[dict[str, str]]) -> Conversation:
    """Messages of which the last is trained."""
    return Conversation(tuple(messages), (len(messages) - 1,))


def _blank(each: Conversation) -> Conversation:
    """A conversation with its texts taken out."""
    tools = each.tools and tuple(blank(each.tools))
    return replace(each, messages=tuple(blank(each.messages)), tools=tools)


def _form(each: Conversation) -> str:
    """What conversations have in common that differ in their texts alone."""
    empty = _blank(each)
    return json.dumps([empty.messages, empty.trained, empty.tools], sort_keys=True, default=str)


def _require_own_tokens(
    row: SourceRow, each: Conversation, turn: Turn, blank_turn: Turn, guard: Guard
) -> None:
    """That the control tokens of a conversation are the chat template's and the recipe's own."""
    if not blank_turn.after.error:
        recipes = sum(guard.count(text) for text in strings(each.messages))
        guard.require(turn.after.text, guard.count(blank_turn.after.text) + recipes, row.where)


def _with_answer(each: Conversation, answer: Callable[[str], str]) -> Conversation:
    """A conversation with every turn that is trained changed by ``answer``."""
    messages = list(each.messages)
    for number in each.trained:
        if "content" in messages[number]:
            messages[number] = messages[number] | {"content": answer(messages[number]["content"])}
    return replace(each, messages=tuple(messages))


def _stop(turn: Turn, tokenizer: Tokenizer) -> tuple[Stop, bool]:
    """The token that closes an assistant turn, and whether the template writes it.

    It is the first special token after the answer. Most instruct models call it their
    end-of-sequence token too; Gemma and Phi 3 do not, and would never stop on theirs.
    """
    if turn.error or not turn.follows:
        raise BadRecipeError(
            "data.template: the chat template cannot write question and answer:"
            f" {turn.error or 'the answer is not after the prompt'}",
            "use data.template.type=text (some models take no system turn)",
        )
    _, _, rest = turn.written.partition(PROBE_ANSWER)
    found = [
        (rest.index(text), token)
        for token, text in special_tokens(tokenizer).items()
        if text in rest
    ]
    stop_id = min(found)[1] if found else tokenizer.eos_token_id
    return Stop(stop_id, token_text(tokenizer, stop_id)), bool(found)


def _examples(
    row: SourceRow, each: Conversation, turns: list[Turn], stop: Stop, *, closes: bool
) -> Iterator[tuple[int, Rendered]]:
    """The examples of a conversation, each with the index of its answer's message."""
    for number, message in enumerate(each.messages):
        if stop.text in message.get("content", ""):
            raise BadDataError(
                f"{row.where}: message {number} spells the stop token {stop.text}",
                "remove it; the chat template writes it",
            )
    answers = [_answer(row, turn, stop, closes=closes) for turn in turns]
    last = turns[-1]
    trained: list[tuple[int, int]] = []
    for turn, answer in zip(turns[:-1], answers[:-1], strict=True):
        start, whole = len(turn.before.text), answer + stop.text
        if not last.before.text.startswith(turn.before.text + whole):
            yield from (
                (one.end, Rendered(row, one.before.text, its))
                for one, its in zip(turns, answers, strict=True)
            )
            return
        trained.append((start, start + len(whole)))
    yield last.end, Rendered(row, last.before.text, answers[-1], tuple(trained))


def _answer(row: SourceRow, turn: Turn, stop: Stop, *, closes: bool) -> str:
    if turn.error:
        raise BadDataError(
            f"{row.where}: the chat template refuses the conversation: {turn.error}",
            "correct the roles and their order",
        )
    if not turn.follows:
        raise BadDataError(
            f"{row.where}: the chat template does not write the answer after its prompt",
            "use data.template.type=text",
        )
    answer, found, _ = turn.written.partition(stop.text)
    if closes and not found:
        raise BadDataError(
            f"{row.where}: the chat template ends message {turn.end} otherwise than with"
            f" {stop.text}",
            "remove the row; a model is trained to end its answers with one token",
        )
    return answer


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
