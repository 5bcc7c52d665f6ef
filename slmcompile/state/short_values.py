"""Values of keys as a few words for a person. What they are of is not known here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slmcompile.console.printable import printable


def short(value: Any) -> str:
    """A value as one short word for a person."""
    text = _whole(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "…"


def short_pair(old: Any, new: Any) -> tuple[str, str]:
    """Two values as ``short`` has them; from where they differ, if it makes them look alike.

    Of two lists of gates those that differ are put into words.
    """
    if _are_gates(old) and _are_gates(new):
        bars = _bars(old, new), _bars(new, old)
        if bars[0] != bars[1]:
            return bars
    pair = short(old), short(new)
    if pair[0] != pair[1]:
        return pair
    if isinstance(old, float) and isinstance(new, float):
        return repr(old), repr(new)
    one, other = _whole(old), _whole(new)
    pairs = enumerate(zip(one, other, strict=False))
    alike = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    at = max(0, alike - _BEFORE)
    return short("…" * (at > 0) + one[at:]), short("…" * (at > 0) + other[at:])


def _are_gates(value: Any) -> bool:
    gates = value if isinstance(value, list | tuple) else [None]
    return all(isinstance(each, Mapping) and "metric" in each for each in gates)


def _bars(gates: Any, others: Any) -> str:
    """The gates that are not among others as well: ``accuracy of torch ≥ 0.5``."""
    told = [_bar(gate) for gate in gates if gate not in others]
    return ", ".join([*told[:_SHOWN_BARS], *["…"] * (len(told) > _SHOWN_BARS)]) or "none"


def _bar(gate: Mapping[str, Any]) -> str:
    bars = [
        f"{sign} {short(gate[key])}" for key, sign in _SIGNS.items() if gate.get(key) is not None
    ]
    whose = f"{short(gate['adapter'])}: " if gate.get("adapter") else ""
    of = f" of {short(gate['artifact'])}" if gate.get("artifact") else ""
    alone = f" ({short(gate['source'])})" if gate.get("source") else ""
    return f"{whose}{short(gate['metric'])}{of}{alone} {' '.join(bars)}".rstrip()


_SIGNS = {"min": "≥", "max": "≤", "max_drop": "drop ≤"}
_SHOWN_BARS = 2


def _whole(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and value:
        return printable(value)
    # Of a spec that was read the keys are in order, of one that was made they are not yet.
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return printable(text)


_LONGEST = 40
_BEFORE = 12
"""Characters of a long value that are shown before where it differs."""
