"""Whether an export may leave: what the report says of these very bytes, and whether that holds.

The report names the hash of the manifest of what it measured, so a card is never of other weights,
whatever DVC remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import (
    CorruptError,
    GateFailedError,
    MissingError,
    SlmcompileError,
    StaleError,
)
from slmcompile.execution.committed import (
    changed_since,
    made_as_asked,
    made_before,
    outdated,
)
from slmcompile.execution.exports import Found
from slmcompile.files import artifact
from slmcompile.files.artifact import MANIFEST, sha256_file
from slmcompile.files.safe_read import read_output_json
from slmcompile.plans.artifacts import TUNED
from slmcompile.recipe.project import Project


@dataclass(frozen=True)
class Measured:
    """An export that may leave, and what its report says of it.

    Attributes:
        manifest: of the export's folder, whose files are all there by name and size.
        manifest_sha256: of that manifest.
        card: the model card.
        summary: what the report knows of the recipe.
        scored: the folder of the answers and figures; of several adapters this one's.
    """

    manifest: Mapping[str, Any]
    manifest_sha256: str
    card: str
    summary: Mapping[str, Any]
    scored: Path


def measured(project: Project, found: Found) -> Measured:
    """Looks at an export as one that is about to be given away.

    Raises:
        MissingError: nothing was measured of it here (exit 69).
        CorruptError: its folder or the report is damaged (exit 74).
        StaleError: it, or what was measured, is not of what is here now (exit 4).
        GateFailedError: a bar on it or on the tuned model is missed (exit 3).
    """
    recipe, folder = found.committed.recipe, found.folder
    again = f"run `slmcompile run {recipe}`"
    reports = found.committed.of_kind("report")
    report = project.root / reports[0].out if reports else None
    if report is None or not report.is_dir():
        raise MissingError(f"{recipe}: {found.target} was never measured here", again)
    manifest = artifact.verify(folder, read=False)
    artifact.verify(report)
    own = report / found.adapter
    summary = read_output_json(own, "summary.json")
    card = own / "cards" / found.target / "README.md"
    if not isinstance(summary, dict):
        raise CorruptError(f"{own}/summary.json: cannot be read", again)
    if not card.is_file():
        raise MissingError(f"{recipe}: {found.target} was never measured here", again)
    sha256 = sha256_file(folder / MANIFEST)
    if summary["hashes"].get(found.target) != sha256:
        raise StaleError(
            f"{found.stage.out}: its measurements are of another export than lies here", again
        )
    _require_current(project, found)
    _require_bars(recipe, summary, found.target)
    (scored,) = found.committed.of_kind("score")
    return Measured(
        manifest,
        sha256,
        card.read_text(encoding="utf-8"),
        summary,
        project.root / scored.out / found.adapter,
    )


def _require_current(project: Project, found: Found) -> None:
    """That nothing has changed since, of the export or of what was measured."""
    committed, recipe = found.committed, found.committed.recipe
    again = f"run `{' '.join(['slmcompile run', recipe, *committed.overrides])}`"
    (report,) = committed.of_kind("report")
    addresses = [found.stage.address, report.address]
    if not made_as_asked(project, committed, addresses):
        over = " ".join(committed.overrides)
        made = f"made with {over}" if over else "made by the recipe as it is synced"
        raise StaleError(f"{found.stage.out}: what lies here was not {made}", again)
    behind = outdated(project, committed)
    for address in addresses:
        stages = [each for through in behind[address].values() for each in through]
        if stages:
            what = committed.stages[address].out
            raise StaleError(f"{what} is {made_before(committed, stages)}", again)
    changed = ""
    with suppress(SlmcompileError):  # what cannot be compiled any more has not changed for it
        gate = f"{recipe}/gate"
        changed = changed_since(
            project, committed, gate if gate in committed.stages else report.address
        )
    if changed:
        raise StaleError(f"{recipe}: {changed}", again)


def _require_bars(recipe: str, summary: Mapping[str, Any], target: str) -> None:
    """That no bar on the target or on what it was made of is missed; others' are not its fault."""
    missed = [
        f"{gate['metric']} of {gate['artifact']} is {gate['value']:.4g}, bar {gate['bar']}"
        for gate in summary["gates"]
        if gate["artifact"] in {target, TUNED} and not gate["passed"]
    ]
    if missed:
        raise GateFailedError(
            f"{recipe}: {target} misses a gate: {'; '.join(missed)}",
            "train better, or lower the bar in the recipe and run it again, which takes seconds",
        )
