"""What an adapter was made from beside base and rows: written into its manifest, and compared.

By fingerprint and not by name. A plan wires the stages so that both ends agree, and DVC runs them
in their order; whoever runs one stage alone, over folders of another day, is told here.
"""

from __future__ import annotations

from slmcompile.console.errors import BadRecipeError
from slmcompile.plans.definition import stage_name
from slmcompile.plans.earlier import ROLE
from slmcompile.plans.kinds.quantize import OVER
from slmcompile.stages.context import Context

TRAINED_OVER = "trained_over"
_TOLD = {"continued_from": ROLE, TRAINED_OVER: OVER}


def lineage(context: Context) -> dict[str, str]:
    """Of a ``train`` stage, for the manifest of what it trains."""
    return {
        key: str(context.manifests[role]["fingerprint"])
        for key, role in _TOLD.items()
        if role in context.manifests
    }


def require_trained_over(context: Context, member: str = "") -> None:
    """Refuses an adapter that was trained over another base than the one that is read with it.

    Raises:
        BadRecipeError: as its manifest says (exit 78).
    """
    role = stage_name("train", member=member)
    trained = context.manifests.get(role, {}).get("info", {}).get(TRAINED_OVER)
    read = lineage(context).get(TRAINED_OVER)
    if trained == read:
        return
    folders = context.inputs
    given = f"the base in {folders[OVER]}" if OVER in folders else "the full-precision base"
    raise BadRecipeError(
        f"{folders[role]}: trained over {_named(trained)}, and {context.stage} reads {given}"
        f" ({_named(read)})",
        "run the recipe as a whole: the adapter is then trained over the base that it ships with",
    )


def _named(fingerprint: str | None) -> str:
    return f"the quantised base {fingerprint[:16]}" if fingerprint else "the full-precision base"
