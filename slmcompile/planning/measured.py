"""How long stages took on this machine, by the journal of what ran here.

Committed metrics are not asked: they may come from another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from slmcompile.pipeline import journal
from slmcompile.planning.definition import Stage
from slmcompile.project import Project


@dataclass(frozen=True)
class Work:
    """How much a training run has to do.

    Attributes:
        tokens: tokens trained on.
        parameters: weights of the base model.
        full: whether all of them are trained.
    """

    tokens: int
    parameters: int
    full: bool

    @property
    def size(self) -> float:
        """Proportional to its operations: 6 a weight and token for method full, 4 otherwise."""
        return float(self.tokens) * self.parameters * (6 if self.full else 4)


Entries = Mapping[str, Mapping[str, Any]]


def seconds_of(entries: Entries, stage: Stage, work: Work | None) -> float | None:
    """Wall time of a stage by the last run of it here, or of one like it; None if there is none.

    A training run is scaled by its work; where either amount is not known, only the same stage's
    own last time counts. Another stage is like one of the same kind and name in another recipe.
    """
    own = entries.get(stage.address)
    like = own or entries.get(stage.name)
    if like is None:
        return None
    if stage.kind != "train":
        return float(like["seconds"])
    before = _work(like)
    if before is not None and work is not None:
        return float(like["seconds"]) * work.size / before.size
    return float(own["seconds"]) if own is not None else None


def _work(entry: Mapping[str, Any]) -> Work | None:
    tokens, total = entry.get("tokens"), entry.get("total_parameters")
    if not tokens or not total:
        return None
    trained = int(entry.get("trainable_parameters", 0))
    full = trained == total
    return Work(int(tokens), int(total) if full else int(total) - trained, full)


def last_entries(project: Project) -> Entries:
    """The journal's last entry of each stage, by address and by name alone."""
    try:
        state = journal.path(project).stat()
    except OSError:
        return {}
    return _read(project, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(project: Project, _changed: int, _size: int) -> Entries:
    """One journal serves a thousand recipes."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in journal.read(project):
        if isinstance(entry, dict) and "stage" in entry and "seconds" in entry:
            address = str(entry["stage"])
            found[address] = entry
            found[address.rpartition("/")[2]] = entry
    return found
