"""All documents of one recipe, from its facts. Equal facts give equal bytes."""

from __future__ import annotations

from slmcompile.report.card import card
from slmcompile.report.facts import ReportFacts
from slmcompile.report.markdown import markdown
from slmcompile.report.page import page


def build(facts: ReportFacts) -> dict[str, str]:
    """Relative path → text: ``report.html``, ``report.md``, ``cards/<target>/README.md``."""
    cards = {
        f"cards/{export.name}/README.md": card(facts, export) for export in facts.of_kind("export")
    }
    return {"report.html": page(facts), "report.md": markdown(facts), **cards}
