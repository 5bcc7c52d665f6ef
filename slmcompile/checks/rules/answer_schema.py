"""Check 36: the JSON Schema that answers are held against is one."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.console.errors import BadDataError, Exit
from slmcompile.facts.context import CheckContext
from slmcompile.files.safe_read import read_regular

_MOST_BYTES = 1 << 20


@check(
    36,
    "answer-schema-valid",
    "a schema file that cannot be read, or leads to an address, is found when all is trained",
    code=Exit.BAD_DATA,
)
def answer_schema_valid(context: CheckContext) -> Verdict:
    """``eval.json_schema`` is JSON Schema of draft 2020-12, whole in itself."""
    path = context.recipe.eval.json_schema
    if path is None or "json_schema_valid" not in context.recipe.eval.metrics:
        return proved("answers are held against no schema")
    from slmcompile.scoring.json_schema import open_schema

    where = context.at("eval.json_schema")
    raw = read_regular(context.project.root, path, where, _MOST_BYTES) or b""
    if len(raw) > _MOST_BYTES:
        return refuted(f"{path}: more than {_MOST_BYTES:,} bytes", "write a smaller schema", where)
    try:
        open_schema(raw, path)
    except BadDataError as error:
        return refuted(error.what, error.mend, where)
    return proved(f"{path}: JSON Schema of draft 2020-12, {len(raw):,} bytes")
