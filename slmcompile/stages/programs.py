"""The program of a kind of stage, called as it is to be: once, or for each adapter of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slmcompile.console.errors import SlmcompileError, all_of
from slmcompile.plans.kinds.kind import Kind
from slmcompile.registry.table import program
from slmcompile.stages.context import Context, Result


def result_of(kind: Kind, context: Context) -> Result:
    """What its program gives, or what it gives for each adapter, one after the other.

    All of them are done before what is wrong with some is raised.
    """
    run: Callable[[Context], Result] = program(kind.program)
    if kind.joins is None or "members" not in context.config:
        return run(context)
    wrong: list[SlmcompileError] = []
    found: dict[str, Result] = {}
    for member in context.config["members"]:
        try:
            found[member] = run(context.of_member(member))
        except SlmcompileError as error:
            wrong.append(type(error)(f"{member}: {error.what}", error.mend, code=error.code))
    if wrong:
        raise all_of(wrong)
    if kind.joins:
        beside: Callable[[Context], None] = program(kind.joins)
        beside(context)
    metrics: dict[str, Any] = {}
    for member, result in found.items():
        for name, values in (result.metrics or {}).items():
            metrics.setdefault(name, {"members": {}})["members"][member] = values
    return Result(metrics=metrics or None)
