"""How long stages took on this machine, by the journal of what ran here.

Committed metrics are not asked: they may come from another machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from statistics import median
from typing import Any

from slmcompile.plans.definition import Stage
from slmcompile.recipe.project import Project
from slmcompile.shapes.interval import Interval, exactly
from slmcompile.state import journal

_LATEST = 3
"""Times that a median is taken of."""

_KEPT = 50
"""Entries of one stage, among which the run nearest in work is looked for."""


@dataclass(frozen=True)
class Work:
    """How much a training run has to do.

    Attributes:
        tokens: tokens trained on.
        parameters: weights of the base model.
        full: whether all of them are trained.
        answers: answers that its validations generate.
    """

    tokens: int
    parameters: int
    full: bool
    answers: int = 0

    @property
    def size(self) -> float:
        """Proportional to its operations: 6 a weight and token for method full, 4 otherwise."""
        return float(self.tokens) * self.parameters * (6 if self.full else 4)


Entries = Mapping[str, Sequence[Mapping[str, Any]]]


def seconds_of(
    entries: Entries, stage: Stage, work: Work | None, base: str = ""
) -> Interval | None:
    """Wall time of a stage by earlier runs of it here, or of ones like it; None if there are none.

    Of a training run part is start-up and part grows with the work, and how much is which is not
    known: by the run that is nearest in work, the time lies between that run's own and that run's
    scaled by the work. Where either amount is not known, only the same stage's own times count. A
    run whose validations generate answers is like no run whose do not; between two that do, the
    time grows by no more than whichever of steps and answers grows more.
    Another stage is like one of the same kind and name in another recipe. Where only its own times
    count, and of what is no training, those with another base model do not; of a base no other is
    like it.

    Args:
        entries: of the journal.
        stage: of a plan.
        work: what it has to do, of a training.
        base: output folder of the plan's base model; empty to ask for none.
    """
    own, same = (
        [each for each in entries.get(name, ()) if not base or each.get("base", base) == base]
        for name in (stage.address, stage.name)
    )
    if stage.kind != "train":
        return _usual(own if stage.kind == "base" else own or same)
    like = own or same or entries.get(stage.name, ())
    known = [(done, entry) for entry in like if (done := _work(entry))]
    if work is None or not work.size or not known:
        return _usual(own)
    known = [(done, entry) for done, entry in known if bool(done.answers) == bool(work.answers)]
    if not known:
        return None
    nearest = min((done for done, _ in known), key=lambda done: abs(log(done.size / work.size)))
    seconds = _usual([entry for done, entry in known if done == nearest])
    times = {1.0, work.size / nearest.size, work.answers / (nearest.answers or 1) or 1.0}
    return seconds * Interval(min(times), max(times)) if seconds else None


def _usual(entries: Sequence[Mapping[str, Any]]) -> Interval | None:
    """The median of the last few times."""
    latest = [float(entry["seconds"]) for entry in entries[-_LATEST:]]
    return exactly(median(latest)) if latest else None


def _work(entry: Mapping[str, Any]) -> Work | None:
    tokens, total = entry.get("tokens"), entry.get("total_parameters")
    if not tokens or not total:
        return None
    trained = int(entry.get("trainable_parameters", 0))
    full = trained == total
    weights = int(total) if full else int(total) - trained
    return Work(int(tokens), weights, full, int(entry.get("answers") or 0))


def earlier_runs(project: Project) -> Entries:
    """The journal's latest entries of each stage, by address and by name alone, oldest first."""
    try:
        state = journal.path(project).stat()
    except OSError:
        return {}
    return _read(project, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(project: Project, _changed: int, _size: int) -> Entries:
    """One journal serves a thousand recipes."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    bases: dict[str, str] = {}
    for told in journal.read(project):
        address = str(told["stage"])
        # A stage that reads no base model works on what the one before it made of one.
        pipeline = address.partition("/")[0]
        if "base" in told:
            bases[pipeline] = str(told["base"])
        entry = {"base": bases[pipeline], **told} if pipeline in bases else told
        for name in dict.fromkeys((address, address.rpartition("/")[2])):
            found.setdefault(name, []).append(entry)
    return {name: entries[-_KEPT:] for name, entries in found.items()}
