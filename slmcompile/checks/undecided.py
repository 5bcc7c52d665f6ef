"""What a rule answers that needs the rows or the tokenizer before they are there."""

from __future__ import annotations

from slmcompile.checks.context import CheckContext
from slmcompile.checks.registry import Verdict, needs_probe


def needs_rows(context: CheckContext, seen: str = "") -> Verdict:
    """Names the stage that brings what is missing.

    With ``plan --deep`` that is the base stage where the tokenizer is what is missing, and the
    reason why the rows could not be read otherwise.

    Args:
        context: of the rule.
        seen: what was looked at already, one clause.
    """
    lead = f"{seen}; " if seen else ""
    if context.deep is None:
        return needs_probe(context.data_stage, f"{lead}the rows are tokenized by then")
    if context.model is None:
        return needs_probe(
            context.base_stage, f"{lead}the tokenizer is not there before it has run"
        )
    return needs_probe(context.data_stage, f"{lead}{context.deep or 'the rows were not read'}")
