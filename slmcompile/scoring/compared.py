"""One artifact against another at every metric that both were measured at, from their answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.metrics import METRICS
from slmcompile.plans.artifacts import TUNED
from slmcompile.scoring.measures import Rows
from slmcompile.scoring.paired import Difference
from slmcompile.scoring.score import measurable, measure_of


@dataclass(frozen=True, slots=True)
class Comparison:
    """One artifact minus another at one metric."""

    one: str
    other: str
    metric: str
    difference: Difference

    def reversed(self) -> Comparison:
        """The other minus the one."""
        return Comparison(self.other, self.one, self.metric, self.difference.reversed())


def comparisons(
    measured: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Rows],
    exports: Collection[str],
) -> list[Comparison]:
    """Every export against the fine-tuned model, and that against all that is no export.

    Args:
        measured: artifact → metric → value.
        answers: artifact → its rows.
        exports: which artifacts are exports.
    """
    pairs = [
        (name, TUNED) if name in exports else (TUNED, name)
        for name in measured
        if name != TUNED and TUNED in measured
    ]
    return [
        Comparison(one, other, metric, found)
        for one, other in pairs
        for metric in METRICS
        if metric in measured[one] and metric in measured[other]
        if (found := compared(metric, answers.get(one, ()), answers.get(other, ()))) is not None
    ]


def compared(metric: str, one: Rows, other: Rows) -> Difference | None:
    """One artifact minus another; None where they did not answer the same rows, or not all of it.

    It is over the rows that have what the metric needs.

    Args:
        metric: a name of ``METRICS``.
        one: rows of the one.
        other: rows of the other.
    """
    one, other = (measurable(rows, METRICS[metric]) for rows in (one, other))
    if not _paired(one, other):
        return None
    try:
        return measure_of(METRICS[metric]).difference(one, other)
    except KeyError:
        return None


def agreement(one: Rows, other: Rows) -> float | None:
    """Share of rows that both answer with the same text; None where that cannot be told."""
    one, other = ([row for row in rows if "compared" in row] for rows in (one, other))
    if not _paired(one, other):
        return None
    return sum(_text(a) == _text(b) for a, b in zip(one, other, strict=True)) / len(one)


def _paired(one: Rows, other: Rows) -> bool:
    return bool(one) and [row["id"] for row in one] == [row["id"] for row in other]


def _text(row: Mapping[str, Any]) -> str:
    """An answer as it is compared: its label in the declared writing."""
    return str(row["compared"]).strip()


def p_text(p: float) -> str:
    """``p = .008``, ``p < .001``, ``p = 1``."""
    if p < 0.001:
        return "p < .001"
    shown = f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"
    return "p = 1" if shown == "1.00" else f"p = {shown.removeprefix('0')}"


def interval_text(difference: Difference) -> str:
    """``-0.083 (95 %: -0.130 to -0.040), p = .002``."""
    value, low, high = map(signed, (difference.value, difference.low, difference.high))
    return f"{value} (95 %: {low} to {high}), {p_text(difference.p)}"


def emulated_by_cpu(names: Sequence[str]) -> str:
    """That artifacts for other processors were answered by the CPU's, in a sentence; else empty."""
    if not names:
        return ""
    return (
        f"Emulated: {', '.join(names)}: the CPU provider ran the very graph; speed and memory on"
        " the processor that it is for are not known."
    )


def answered_by(ran: Mapping[str, str | None]) -> str:
    """What answered exported artifacts, in a sentence of each word; else empty.

    Args:
        ran: by artifact ``verified``, ``emulated``, ``simulated`` or ``generated``.
    """
    verified = [name for name, word in ran.items() if word == "verified"]
    emulated = [name for name, word in ran.items() if word == "emulated"]
    simulated = [name for name, word in ran.items() if word == "simulated"]
    generated = [name for name, word in ran.items() if word == "generated"]
    sentences = (
        _by_its_own(verified),
        emulated_by_cpu(emulated),
        _by_simulator(simulated),
        _widened(generated),
    )
    return " ".join(filter(None, sentences))


def _by_its_own(names: Sequence[str]) -> str:
    return f"Verified: {', '.join(names)}: answered here by what runs it." if names else ""


def _widened(names: Sequence[str]) -> str:
    if not names:
        return ""
    return (
        f"Generated: {', '.join(names)}: the CPU provider has no products in bfloat16, and ran the"
        " same weights and graph in fp32; rounding, speed and memory on the processor that it is"
        " for are not known."
    )


def _by_simulator(names: Sequence[str]) -> str:
    if not names:
        return ""
    return (
        f"Simulated: {', '.join(names)}: the vendor's simulator of the processor that it is for has"
        " run what was compiled; speed and memory there are not known."
    )


def measured_by(machines: Mapping[str, str | None]) -> str:
    """What speeds and memory were measured on, in a sentence; empty where nobody says.

    Args:
        machines: by artifact its processor and threads.
    """
    on: dict[str, list[str]] = {}
    for name, machine in machines.items():
        if machine:
            on.setdefault(machine, []).append(name)
    if len(on) < 2:
        return f"Speed, one answer at a time, and memory on {next(iter(on))}." if on else ""
    listed = "; ".join(f"{', '.join(names)} on {machine}" for machine, names in on.items())
    return f"Speeds and memory do not compare: {listed}."


def signed(value: float) -> str:
    """A difference to three decimals; to one digit where those would all be zero."""
    return f"{value:+.1g}" if 0 < abs(value) < 0.0005 else f"{value + 0.0:+.3f}"
