"""The rule over lengths: what does not fit is lost, in training or in measuring."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.metrics import METRICS
from slmcompile.providers import PROVIDERS
from slmcompile.templates import TEMPLATES

DROPPED = 0.2
"""Share of rows dropped as too long from which what is left is another data set."""


@check(
    15,
    "nothing-lost",
    "rows, labels or the ends of answers are lost to a length limit, in silence",
    needs=("T", "D", "C", "H"),
    code=Exit.BAD_DATA,
)
def nothing_lost(context: CheckContext) -> Verdict:
    """Rows fit the context, few are dropped, answers fit ``eval.max_new_tokens``."""
    if context.data is None or context.model is None:
        return needs_rows(context)
    data, facts = context.data, context.data.facts
    longest, window = data.longest, context.model.context_length
    if window is not None and longest > window:
        parts = context.recipe.data.parts
        documents = any(not TEMPLATES[part.template.type].asks for part in parts)
        fit = "where documents become more rows" if documents else "and data.too_long=drop"
        return refuted(
            f"the longest row has {longest} tokens, the model's context {window}",
            f"set data.max_length={window}{',' * documents} {fit}, or shorten the rows",
            context.at("data.max_length"),
        )
    if refusal := _no_room(context, longest):
        return refusal
    if facts.labels_lost:
        return refuted(
            f"every row of the label {facts.labels_lost[0]!r} was longer than"
            f" {data.report['max_length']} tokens and dropped",
            "raise data.max_length",
            context.at("data.max_length"),
        )
    dropped, read = int(data.report["dropped"]["too_long"]["count"]), int(data.report["read"])
    if dropped > DROPPED * read:
        return refuted(
            f"{dropped} of {read} rows ({dropped / read:.0%}) were longer than"
            f" {data.report['max_length']} tokens and dropped",
            "raise data.max_length, or take the long rows out of the data",
            context.at("data.max_length"),
        )
    measured = min(context.recipe.eval.limit or data.rows["test"], data.rows["test"])
    answer = max(tokens for rows, tokens in facts.longest_tested if rows <= measured)
    limit = context.recipe.eval.max_new_tokens
    if answer > limit and _are_compared(context):
        return refuted(
            f"the longest answer of the {measured} test rows measured has {answer} tokens,"
            f" generation ends after {limit}: it cannot be counted right",
            f"set eval.max_new_tokens={answer}",
            context.at("eval.max_new_tokens"),
            Exit.BAD_RECIPE,
        )
    return proved(
        f"longest row {longest} tokens, context {window or 'not stated'};"
        f" {dropped} of {read} rows dropped; longest answer measured {answer} of {limit}"
    )


def _no_room(context: CheckContext, longest: int) -> Verdict | None:
    """The refusal of a target whose graph, of fixed shapes, is shorter than a row."""
    for name, target in context.recipe.target.items():
        room = PROVIDERS[target.execution_provider].room(target)
        if room is not None and longest > room:
            return refuted(
                f"the longest row has {longest} tokens, prompt and answer, and the graph of"
                f" target.{name} room for {room}",
                f"raise target.{name}.context_length, or shorten the rows",
                context.at(f"target.{name}.context_length"),
                Exit.BAD_RECIPE,
            )
    return None


def _are_compared(context: CheckContext) -> bool:
    """Whether answers, or labels within them, are compared with references."""
    return any(METRICS[name].needs in {"text", "label"} for name in context.recipe.eval.metrics)
