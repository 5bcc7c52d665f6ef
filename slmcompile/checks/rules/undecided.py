"""What a rule answers that needs the rows or the tokenizer before they are there."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, needs_probe
from slmcompile.facts.context import CheckContext


def needs_rows(context: CheckContext) -> Verdict:
    """Names the stage that brings what is missing.

    With ``plan --deep`` that is the base stage where the tokenizer is what is missing, and the
    reason why the rows could not be read otherwise.
    """
    if context.data is None and context.deep is None:
        return needs_probe(context.data_stage, "the rows are tokenized by then")
    if context.model is None:
        return needs_probe(context.base_stage, "the model is not there before it has run")
    return needs_probe(context.data_stage, context.deep or "the rows were not read")
