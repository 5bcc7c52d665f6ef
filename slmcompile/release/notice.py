"""What a package says in words: its model card, and whose works are in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmcompile.execution.exports import Found
from slmcompile.plans.artifacts import adapter_file
from slmcompile.providers import PROVIDERS
from slmcompile.release.measured import Measured
from slmcompile.report.inert import block, code, prose
from slmcompile.report.text import visible

_RUNS_IT = "What runs it, with the texts of the licenses beside it:"


def notice(summary: Mapping[str, Any], others: Sequence[str] = ()) -> str:
    """Base model and data with their licences, as the recipe states them.

    Args:
        summary: what the report knows of the recipe.
        others: a line for each other work that is packed.
    """
    works = (
        ("Base model", summary["model_name"], summary["model_license"]),
        ("Data", summary["data_name"], summary["data_license"]),
    )
    lines = [f"{what}: {visible(name)}, license: {visible(given)}" for what, name, given in works]
    return "\n".join(
        [
            "The model in this package was made from:",
            "",
            *lines,
            "",
            "Their terms hold for it too. The licenses are named as the recipe states them; their",
            "texts are not in this package.",
            "",
            *(
                ["What runs it here, with the texts of their licenses beside them:", ""]
                * bool(others)
            ),
            *others,
            *([""] * bool(others)),
        ]
    )


def readme(known: Measured, found: Found, usage: Sequence[str]) -> str:
    """The model card, whose program opens the folder that it lies in, and how the package is used.

    Args:
        known: what was measured.
        found: the export.
        usage: paragraphs on how it is used.
    """
    path = found.stage.out
    card = known.card.replace(f"og.Model({path!r})", "og.Model('.')")
    if found.chosen:
        file = adapter_file(found.chosen)
        card = card.replace(f"adapters.load({f'{path}/{file}'!r},", f"adapters.load({file!r},")
    parts = [
        card.rstrip("\n"),
        "## This package",
        "Every file is in `SHA256SUMS`:",
        block("sha256sum -c SHA256SUMS", "sh"),
        *usage,
    ]
    overrides = known.summary.get("overrides", [])
    if overrides:
        parts.append(f"Made with {code(visible(' '.join(overrides)))} beside the recipe.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def of_programs(known: Measured, commands: Sequence[str]) -> list[str]:
    """How programs are run.

    Args:
        known: what was measured.
        commands: that answer a text, of ``run.py`` the first; none where it has no program.
    """
    first, *others = commands or [""]
    parts = []
    if first:
        parts += [f"It answers a text by {_runtime(known)}:", block(first, "sh")]
    if others:
        parts += ["Or with Node, which nobody has measured:", block("\n".join(others), "sh")]
    return parts


def _runtime(known: Measured) -> str:
    """The package that runs it, in the version that measured it."""
    provider = PROVIDERS[known.manifest["info"]["execution_provider"]]
    version = known.summary["packages"].get("onnxruntime-genai", "")
    measured = f", of which {prose(version)} has measured it" if version else ""
    return f"{prose(provider.install or 'onnxruntime-genai')} alone{measured}"
