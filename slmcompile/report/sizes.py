"""What a size in a report is of, where that is more than its one artifact's own files."""

from __future__ import annotations

from collections.abc import Iterable

from slmcompile.report.facts import Artifact, ReportFacts
from slmcompile.report.text import size


def shared_by(artifact: Artifact) -> str:
    """``with all 3 adapters``, of a folder that other adapters are in too; else empty."""
    return f"with all {artifact.adapters} adapters" if (artifact.adapters or 0) > 1 else ""


def size_sentences(facts: ReportFacts, artifacts: Iterable[Artifact]) -> list[str]:
    """One for each artifact whose size needs it; plain text."""
    found = []
    for each in artifacts:
        if each.kind == "tuned" and facts.trained_over and each.size_bytes is not None:
            found.append(
                f"The size of {each.name} is that of the base model, of the quantised base whose"
                " weights it computes with, and of its adapter."
            )
        if shared_by(each):
            found.append(
                f"The size of {each.name} is of one folder {shared_by(each)};"
                f" {size(each.adapter_bytes)} of it are this adapter's alone."
            )
    return found
