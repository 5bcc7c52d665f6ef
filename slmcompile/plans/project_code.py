"""Which code of the project, or of a plug-in, a stage would execute: read off its spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slmcompile.losses import LOSSES
from slmcompile.plans.answered_validation import SECTION


def project_code(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the files and names of the installed plug-ins; empty where all code is the tool's.

    Args:
        spec: a stage's spec, as ``exec`` reads it.
    """
    return tuple(dict.fromkeys(_code(spec)))


def _code(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from (path for path in spec.get("files", ()) if path.startswith("plugins/"))
    config = spec["config"]
    for section in (config, *config.get("members", {}).values()):
        loss = section.get("loss")
        if isinstance(loss, Mapping) and (key := LOSSES[loss["type"]].code):
            yield loss[key]
        yield from section.get("plugins", ())
        yield from section.get(SECTION, {}).get("plugins", ())
