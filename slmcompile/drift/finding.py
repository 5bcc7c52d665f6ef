"""One thing that has drifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal[
    "overrides",
    "generated",
    "environment",
    "lock",
    "input",
    "cache",
    "damaged",
    "remote",
    "upstream",
]

_LISTED = 3


@dataclass(frozen=True)
class Finding:
    """What differs, and how to mend it.

    Attributes:
        kind: a stable word for programs.
        subject: the file, package, output or reference; the recipe, where it is about several.
        what: what is wrong with it.
        mend: how to mend it.
        paths: the files or outputs, where there are several.
    """

    kind: Kind
    subject: str
    what: str
    mend: str
    paths: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for a person."""
        return f"{self.kind.ljust(11)}  {self.subject}: {self.what}; {self.mend}"

    def as_json(self) -> dict[str, Any]:
        """For programs, where the mend is called ``hint``."""
        return {"hint" if key == "mend" else key: value for key, value in asdict(self).items()}


def folded(kind: Kind, recipe: str, found: Mapping[str, str], many: str, mend: str) -> Finding:
    """What one cause did to a recipe's paths as one finding; ``found`` says it of each path."""
    if len(found) == 1:
        ((path, what),) = found.items()
        return Finding(kind, path, what, mend)
    return Finding(kind, recipe, f"{len(found)} {many} ({listed(found)})", mend, tuple(found))


def listed(names: Mapping[str, object] | list[str]) -> str:
    """The first few names."""
    return ", ".join(list(names)[:_LISTED]) + (", …" if len(names) > _LISTED else "")
