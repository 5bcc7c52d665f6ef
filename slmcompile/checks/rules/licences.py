"""Names by which a base model's licence is known: SPDX's, and those that the hub adds to them."""

from __future__ import annotations

from difflib import get_close_matches

HUB = frozenset(
    {
        "apple-amlr", "apple-ascl", "bigcode-openrail-m", "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m", "bsd", "cc", "creativeml-openrail-m", "deepfloyd-if-license",
        "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "grok2-community",
        "h-research", "intel-research", "lgpl", "lgpl-lr", "llama2", "llama3", "llama3.1",
        "llama3.2", "llama3.3", "llama4", "odbl", "odc-by", "openmdw-1.0", "openrail",
        "openrail++", "pddl",
    }
)  # fmt: skip
"""https://huggingface.co/docs/hub/repositories-licenses, without what SPDX lists too."""

_USUAL = (
    "AGPL-3.0-only", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0", "CC-BY-SA-4.0", "CC0-1.0", "CDLA-Permissive-2.0", "EUPL-1.2",
    "GPL-3.0-only", "LGPL-3.0-only", "MIT", "MPL-2.0", "Unlicense", "WTFPL",
)  # fmt: skip
"""SPDX's for models on the hub."""


def is_known(name: str) -> bool:
    """Whether it is a name of the hub's or an SPDX expression (``LicenseRef-X`` is one)."""
    if name.lower() in HUB or name in _USUAL:
        return True
    # Here, as its list takes longer to import than most plans need it for.
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonicalize_license_expression(name)
    except InvalidLicenseExpression:
        return False
    return True


def nearest(name: str) -> str | None:
    """The name of a usual licence that is like ``name``."""
    spelt = {each.lower(): each for each in (*HUB, *_USUAL)}
    close = get_close_matches(name.lower(), spelt, n=1, cutoff=0.6)
    return spelt[close[0]] if close else None
