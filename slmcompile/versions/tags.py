"""Names of version tags, in the grammar of GTO 1.10 (``gto/constants.py``, ``gto/tag.py``).

``R@v1.2.0`` registers a version, ``R@v1.2.0!#4`` takes it back, ``R#production#3`` assigns a stage,
``R#production!#5`` takes that back, ``R@deprecated#6`` gives up the recipe. The number at the end
counts the tags of a recipe and may be missing. A recipe's name holds neither ``@`` nor ``#``, so a
tag is of one recipe. Knows no repository.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from slmcompile.console.errors import UsageError

Action = Literal["register", "revoke", "assign", "unassign", "deprecate", "create"]
Bump = Literal["major", "minor", "patch"]

_NUMBER = r"(?:0|[1-9]\d{0,8})"
_VERSION = re.compile(rf"v({_NUMBER})\.({_NUMBER})\.({_NUMBER})", re.ASCII)
_OWN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)
_STAGE = r"[a-zA-Z0-9](?:[a-zA-Z0-9/_-]{0,62}[a-zA-Z0-9])?"
_TAG = re.compile(
    rf"(?P<recipe>{_OWN_NAME.pattern})"
    rf"(?:(?:\#(?P<stage>{_STAGE})|@(?P<version>v[0-9][0-9A-Za-z.+-]{{0,60}}))(?P<cancel>!?)"
    r"|@(?P<whole>deprecated|created))"
    r"(?:\#(?P<counter>[0-9]{1,9}))?",
    re.ASCII,
)


@dataclass(frozen=True, order=True)
class Number:
    """A version's number: three, without what semver lets follow them."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    def bumped(self, bump: Bump) -> Number:
        """The next one."""
        if bump == "major":
            return Number(self.major + 1, 0, 0)
        if bump == "minor":
            return Number(self.major, self.minor + 1, 0)
        return Number(self.major, self.minor, self.patch + 1)


FIRST = Number(1, 0, 0)


@dataclass(frozen=True)
class TagName:
    """What the name of a tag says.

    Attributes:
        recipe: whose tag it is.
        action: what it does.
        version: the number that it registers or takes back, as it is written; else empty.
        stage: what it assigns or takes back; else empty.
        counter: the number at its end; None where there is none.
    """

    recipe: str
    action: Action
    version: str = ""
    stage: str = ""
    counter: int | None = None

    def __str__(self) -> str:
        cancel = "!" if self.action in {"revoke", "unassign"} else ""
        what = f"#{self.stage}" if self.stage else f"@{self.version or f'{self.action}d'}"
        counter = "" if self.counter is None else f"#{self.counter}"
        return f"{self.recipe}{what}{cancel}{counter}"


def parse(name: str) -> TagName | None:
    """What a tag's name says; None where it is no version tag of a recipe."""
    found = _TAG.fullmatch(name)
    if found is None:
        return None
    counter = None if found["counter"] is None else int(found["counter"])
    cancelled = found["cancel"] == "!"
    action: Action
    if found["whole"]:
        action = "deprecate" if found["whole"] == "deprecated" else "create"
    elif found["stage"]:
        action = "unassign" if cancelled else "assign"
    else:
        action = "revoke" if cancelled else "register"
    return TagName(found["recipe"], action, found["version"] or "", found["stage"] or "", counter)


def number(text: str) -> Number | None:
    """``v1.2.0`` as a number; None for anything else, semver's longer forms too."""
    found = _VERSION.fullmatch(text)
    return Number(*map(int, found.groups())) if found else None


def require_recipe(name: str) -> str:
    """A recipe's name, if tags can carry it.

    Raises:
        UsageError: they cannot (exit 64).
    """
    return _own_name(name, f"{name!r} is no recipe that can have versions")


def require_stage(name: str) -> str:
    """A stage's name such as ``production``, as ``promote`` gives it.

    Raises:
        UsageError: it has another form (exit 64).
    """
    return _own_name(name, f"{name!r} is no stage's name")


def _own_name(name: str, wrong: str) -> str:
    if not _OWN_NAME.fullmatch(name):
        raise UsageError(
            wrong, "lower-case letters, digits, - and _, of which a letter or a digit is the last"
        )
    return name


def require_number(text: str) -> Number:
    """A version's number as a person writes it.

    Raises:
        UsageError: it has another form (exit 64).
    """
    found = number(text if text.startswith("v") else f"v{text}")
    if found is None:
        raise UsageError(f"{text!r} is no version", "versions are three numbers: v1.2.0")
    return found
