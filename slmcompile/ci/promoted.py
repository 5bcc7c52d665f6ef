"""A recipe that became a version, as it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promoted:
    """A recipe that became a version.

    Attributes:
        recipe: its name.
        version: as people write it, ``R@v1.2.0``.
        stage: that it was given; empty where an owner has to give it.
        number: of the pull request that it was trained for.
    """

    recipe: str
    version: str
    stage: str
    number: int | None
