"""The list of all rules: for a person, for a program, and for the README's table."""

from __future__ import annotations

import json
from typing import Literal

from slmcompile.checks.registry import Check, all_checks


def listing(form: Literal["text", "json", "markdown"]) -> str:
    """Every rule with the failure it prevents and what it reads."""
    checks = all_checks()
    if form == "json":
        entries = [
            {
                "number": check.number,
                "name": check.name,
                "prevents": check.prevents,
                "needs": list(check.needs),
                "warning": check.warning,
                "exit_code": int(check.code),
            }
            for check in checks
        ]
        return json.dumps({"format_version": "1.0", "checks": entries}, indent=2)
    if form == "markdown":
        rows = [f"| {c.number} | `{c.name}` | {c.prevents} | {_needs(c)} |" for c in checks]
        return "\n".join(["| # | check | prevents | needs |", "|---|---|---|---|", *rows])
    width = max((len(check.name) for check in checks), default=0)
    reads = max((len(_needs(check)) for check in checks), default=0)
    lines = [
        f"{c.number:3} {c.name.ljust(width)}  {_needs(c).ljust(reads)}  {c.prevents}"
        for c in checks
    ]
    return "\n".join(
        [
            *lines,
            "reads: C the recipe, H the model's headers, M the model without weights,"
            " T the tokenizer, D the rows",
        ]
    )


def _needs(check: Check) -> str:
    return " ".join(check.needs)
