"""Rows to prompt and completion text, by the recipe's template. Knows nothing of token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slmcompile.console.errors import BadDataError
from slmcompile.data.guard import Guard
from slmcompile.data.rows import Rendered, Rendering, SourceRow
from slmcompile.data.template_program import TemplateProgram, Thinks
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.registry.table import program as program_named
from slmcompile.templates import TEMPLATES
from slmcompile.templates.template import TemplateKeys


def program_of(template: TemplateKeys) -> TemplateProgram:
    """What a template does."""
    found: TemplateProgram = program_named(TEMPLATES[template.type].program)
    return found


def render(
    rows: Sequence[SourceRow],
    template: TemplateKeys,
    renamed: Mapping[str, str],
    tokenizer: Tokenizer,
    guard: Guard,
    answer: Callable[[str], str] = str,
    *,
    thinking: bool | None = None,
) -> Rendering:
    """Renders every row.

    Args:
        rows: the source's rows.
        template: the recipe's ``data.template``.
        renamed: the recipe's ``data.columns``.
        tokenizer: whose chat template and stop token are used.
        guard: refuses or marks control tokens that the rows spell.
        answer: changes each row's answer; of a conversation, each that is trained.
        thinking: whether a chat template's thinking is on; None finds out from the rows.

    Raises:
        BadDataError: a column is missing or null or spells a control token, or prompt or
            completion is empty.
        BadRecipeError: the template is broken, or the chat template cannot be used so.
        RefusedError: the template reaches into values, or the chat template explodes.
    """
    program = program_of(template)
    if thinking is not None and isinstance(program, Thinks):
        program = program.with_thinking(on=thinking)
    rendering = program.render(rows, template, renamed, tokenizer, guard, answer)
    for each in rendering.rows:
        _check(each)
    return rendering


def _check(each: Rendered) -> None:
    texts = [(each.prompt, "prompt"), (each.completion, "completion")]
    for part, name in texts if each.document is None else [(each.completion, "text")]:
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
