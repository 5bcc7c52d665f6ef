"""One thing that has drifted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["generated", "environment", "lock", "cache", "damaged", "remote", "upstream"]


@dataclass(frozen=True)
class Finding:
    """What differs, and how to mend it.

    Attributes:
        kind: a stable word for programs.
        subject: the file, package, output or reference.
        what: what is wrong with it.
        mend: how to mend it.
    """

    kind: Kind
    subject: str
    what: str
    mend: str

    def line(self) -> str:
        """One line for a person."""
        return f"{self.kind.ljust(11)}  {self.subject}: {self.what}; {self.mend}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)
