"""What a merge has made, as it is told."""

from __future__ import annotations

from dataclasses import dataclass

from slmcompile.console.errors import SlmcompileError


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


@dataclass(frozen=True)
class Merged:
    """What a commit of the target has made.

    Attributes:
        done: recipes that became versions.
        wrong: why others did not.
    """

    done: tuple[Promoted, ...]
    wrong: tuple[SlmcompileError, ...]
