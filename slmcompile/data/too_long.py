"""What is said of rows that are longer than ``data.max_length``, and how they would fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmcompile.console.errors import BadDataError
from slmcompile.recipe.schema import Data


def refuse_long(
    lengths: Sequence[int], where_is: Callable[[int], str], config: Data, window: int | None
) -> None:
    """Raises BadDataError where rows that are too long may not be dropped, or all would be.

    It names the longest row, by which all of them would fit, or else the model's context.

    Args:
        lengths: tokens of each row.
        where_is: the place of a row, by its number among them.
        config: the recipe's ``data`` section.
        window: the model's context; None where it says none.
    """
    limit, longest = config.max_length, max(lengths, default=0)
    count = sum(length > limit for length in lengths)
    if not count or (config.too_long == "drop" and count < len(lengths)):
        return
    where = where_is(lengths.index(longest))
    if config.too_long == "drop":
        raise BadDataError(
            f"all {count} rows are longer than data.max_length={limit};"
            f" the longest is {where} with {longest} tokens",
            _how_to_fit(lengths, limit, window, "or shorten the rows"),
        )
    others = f"; {count} rows are longer, this is the longest" if count > 1 else ""
    raise BadDataError(
        f"{where}: {longest} tokens, data.max_length is {limit}{others}",
        _how_to_fit(lengths, limit, window, "or data.too_long=drop"),
    )


def _how_to_fit(lengths: Sequence[int], limit: int, window: int | None, otherwise: str) -> str:
    """What to do about rows of these lengths; nothing that the model's context does not hold."""
    if window is None or max(lengths) <= window:
        return f"set data.max_length={max(lengths)}, {otherwise}"
    if min(lengths) > window:
        return f"shorten the rows: the base model's context is {window} tokens"
    raised = f"data.max_length={window} and " if limit != window else ""
    return (
        f"set {raised}data.too_long=drop, or shorten the rows:"
        f" the base model's context is {window} tokens"
    )
