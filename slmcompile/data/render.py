"""Rows to prompt and completion text, by the recipe's template.

Knows nothing of token ids. Conversations are rendered in ``chat``; plain text here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slmcompile.console.errors import BadDataError
from slmcompile.data import chat
from slmcompile.data.guard import Guard, literals
from slmcompile.data.rows import Rendered, Rendering, SourceRow, Stop
from slmcompile.data.template import Piece, fields, parse
from slmcompile.data.tokenizer import Tokenizer, token_text
from slmcompile.recipe.schema import Template, TextTemplate


def render(
    rows: Sequence[SourceRow],
    template: Template,
    renamed: Mapping[str, str],
    tokenizer: Tokenizer,
    guard: Guard,
    answer: Callable[[str], str] = str,
) -> Rendering:
    """Renders every row.

    Args:
        rows: the source's rows.
        template: the recipe's ``data.template``.
        renamed: the recipe's ``data.columns``.
        tokenizer: whose chat template and stop token are used.
        guard: refuses or marks control tokens that the rows spell.
        answer: changes each row's answer; of a conversation, each that is trained.

    Raises:
        BadDataError: a column is missing or null or spells a control token, or prompt or
            completion is empty.
        BadRecipeError: the template is broken, or the chat template cannot be used so.
        RefusedError: the template reaches into values, or the chat template explodes.
    """
    if isinstance(template, TextTemplate):
        rendering = _text(rows, template, renamed, tokenizer, guard, answer)
    else:
        rendering = chat.render(rows, template, renamed, tokenizer, guard, answer)
    for each in rendering.rows:
        _check(each)
    return rendering


def _text(
    rows: Sequence[SourceRow],
    template: TextTemplate,
    renamed: Mapping[str, str],
    tokenizer: Tokenizer,
    guard: Guard,
    answer: Callable[[str], str],
) -> Rendering:
    prompt = parse(template.prompt, "data.template.prompt")
    stop = Stop(tokenizer.eos_token_id, token_text(tokenizer, tokenizer.eos_token_id))
    completion = _without(stop, parse(template.completion, "data.template.completion"))
    own = guard.controls.count(literals(completion))

    def rendered(number: int, row: SourceRow) -> Rendered:
        text = answer(guard.fill(completion, row, renamed))
        guard.require(text, own, row.where)
        return guard.lift(Rendered(row, guard.fill(prompt, row, renamed), text, source=number))

    found = [rendered(number, row) for number, row in enumerate(rows)]
    return Rendering(found, stop, template.prompt, fields(prompt))


def _without(stop: Stop, completion: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """A template that ends with the stop token, without it: every answer would end with two."""
    *before, last = completion or (Piece("", None),)
    if last.field is not None or not last.literal.endswith(stop.text):
        return completion
    return (*before, Piece(last.literal.removesuffix(stop.text), None))


def _check(each: Rendered) -> None:
    for part, name in ((each.prompt, "prompt"), (each.completion, "completion")):
        if not part.strip():
            raise BadDataError(
                f"{each.row.where}: the {name} is empty", "fill the row's columns or remove it"
            )
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise BadDataError(
                f"{each.row.where}: the {name} holds half a surrogate pair",
                "write characters beyond U+FFFF as themselves",
            ) from error
