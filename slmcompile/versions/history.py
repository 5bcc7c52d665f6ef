"""What a recipe's tags say together: its versions, which stage each has had, and what is none.

A version or a stage is given only by an annotated tag whose message names the SHA-256 of the
statement in its commit, and taken back by any annotated tag: whoever can make tags could write
that line too, and withholding is the safe side. A number that was taken back stays taken. Knows
git's tags and a statement's bytes, and nothing of what a statement says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from slmcompile.console.errors import CorruptError, MissingError, SlmcompileError
from slmcompile.provenance.committed import statement_bytes, statement_path
from slmcompile.versions.tag_objects import Tag, read_tags, subjects
from slmcompile.versions.tags import FIRST, Bump, Number, number


@dataclass(frozen=True)
class Version:
    """A version of a recipe.

    Attributes:
        recipe: the recipe.
        number: its number.
        commit: full hash of its commit.
        statement: SHA-256 of its statement's bytes.
        who: who made its tag, ``Name <address>``.
        when: when, in seconds since 1970.
        why: first line of its commit's message.
        revoked: the tag that took it back and by whom; empty if none did.
    """

    recipe: str
    number: Number
    commit: str
    statement: str
    who: str
    when: int
    why: str = ""
    revoked: str = ""

    @property
    def shown(self) -> str:
        """``R@v1.2.0``."""
        return f"{self.recipe}@{self.number}"


@dataclass(frozen=True)
class Assignment:
    """That a version was given a stage, or that it was taken from it."""

    stage: str
    number: Number
    who: str
    when: int
    given: bool


@dataclass(frozen=True)
class NoVersion:
    """A tag of a version's form that is none, and why."""

    tag: str
    reason: str


@dataclass(frozen=True)
class History:
    """All that the tags of a recipe say.

    Attributes:
        recipe: the recipe.
        versions: by number, from the first.
        assignments: of stages, in order.
        refused: tags that are used for nothing.
        names: every tag's name, used or not.
        newest: seconds since 1970 of the newest tag that is used for something.
    """

    recipe: str
    versions: tuple[Version, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    refused: tuple[NoVersion, ...] = ()
    names: frozenset[str] = field(default=frozenset(), repr=False)
    newest: int = 0

    def version(self, wanted: Number) -> Version:
        """The version of a number.

        Raises:
            CorruptError: its tag is there and is not used (exit 74).
            MissingError: there is none (exit 69).
        """
        for version in self.versions:
            if version.number == wanted:
                return version
        shown = f"{self.recipe}@{wanted}"
        for refused in self.refused:
            if refused.tag == shown:
                raise CorruptError(
                    f"{shown} is not a version: {refused.reason}", "use another version"
                )
        there = ", ".join(str(version.number) for version in self.versions[-5:])
        raise MissingError(
            f"{shown}: there is no such version", f"there are {there}" if there else "none yet"
        )

    def had(self, stage: str) -> tuple[Number, ...]:
        """Versions that a stage falls back to, the one that has it now last.

        Going back to a version takes away those that came behind it, so that going back twice
        does not lead to what was left the first time. Taking a stage from a version leaves the
        one before.
        """
        held: list[Number] = []
        for each in self.assignments:
            if each.stage != stage:
                continue
            if not each.given:
                held = [number for number in held if number != each.number]
            elif each.number in held:
                held = held[: held.index(each.number) + 1]
            else:
                held.append(each.number)
        return tuple(held)

    def assigned(self, stage: str) -> tuple[Assignment, ...]:
        """When a stage was given, in order."""
        return tuple(each for each in self.assignments if each.stage == stage and each.given)

    def holder(self, stage: str) -> Version:
        """The version that has a stage.

        Raises:
            MissingError: none has it (exit 69).
        """
        held = self.had(stage)
        if not held:
            stages = sorted({each.stage for each in self.assignments})
            raise MissingError(
                f"{self.recipe}: no version is {stage}",
                f"stages so far: {', '.join(stages)}" if stages else f"promote one to {stage}",
            )
        return self.version(held[-1])

    def stages(self) -> dict[Number, list[str]]:
        """Which stages a version has now."""
        found: dict[Number, list[str]] = {}
        for stage in dict.fromkeys(each.stage for each in self.assignments):
            for held in self.had(stage)[-1:]:
                found.setdefault(held, []).append(stage)
        return found

    def free_number(self, bump: Bump) -> Number:
        """The next number; one that a tag has already, be it a version's or not, is passed over."""
        following = self.versions[-1].number.bumped(bump) if self.versions else FIRST
        taken = {number(name.partition("@")[2].partition("#")[0]) for name in self.names}
        while following in taken:
            following = following.bumped(bump)
        return following


def read_history(root: Path, recipe: str, there: Mapping[str, str] | None = None) -> History:
    """The history of a recipe.

    Args:
        root: the project's folder.
        recipe: its name.
        there: tags of the remote; those that are only here are used for nothing then. None: the
            remote was not asked.
    """
    tags = read_tags(root, recipe)
    names = frozenset({str(tag.name) for tag in tags} | set(there or ()))
    reading = _Reading(root, recipe)
    # A number that was taken back stays so, whatever the clock of who took it back says.
    for tag in sorted(tags, key=lambda tag: tag.name.action == "revoke"):
        if there is not None and str(tag.name) not in there:
            reading.refuse(tag, "it is here and not on the remote: taken away, or never pushed")
        else:
            reading.read(tag)
    why = subjects(root, [version.commit for version in reading.versions.values()])
    versions = (
        replace(version, why=why.get(version.commit, "")) for version in reading.versions.values()
    )
    return History(
        recipe,
        tuple(sorted(versions, key=lambda version: version.number)),
        tuple(reading.assignments),
        tuple(reading.refused),
        names,
        reading.newest,
    )


class _Reading:
    """Tags of a recipe, one after another."""

    def __init__(self, root: Path, recipe: str) -> None:
        self.root = root
        self.recipe = recipe
        self.versions: dict[Number, Version] = {}
        self.assignments: list[Assignment] = []
        self.refused: list[NoVersion] = []
        self.newest = 0
        self._found: dict[str, str] = {}

    def refuse(self, tag: Tag, reason: str) -> None:
        self.refused.append(NoVersion(str(tag.name), reason))

    def read(self, tag: Tag) -> None:
        action = tag.name.action
        giving = action in {"register", "assign"}
        reason = tag.wrong or (self._unproved(tag) if giving else "")
        if not reason:
            steps = {"register": self._register, "assign": self._assign, "revoke": self._revoke}
            steps |= {"unassign": self._assign, "deprecate": self._deprecate}
            reason = steps[action](tag) if action in steps else "it makes no version"
        if reason:
            self.refuse(tag, reason)
        else:
            self.newest = max(self.newest, tag.when)

    def _unproved(self, tag: Tag) -> str:
        if not tag.statement:
            return "its message has no line `statement: sha256:…`, or several"
        if tag.commit not in self._found:
            self._found[tag.commit] = self._digest(tag.commit)
        found = self._found[tag.commit]
        if found == tag.statement:
            return ""
        path = statement_path(self.recipe)
        if not found:
            return f"its commit {tag.commit[:10]} has no {path}"
        return f"{path} of its commit is {found[:10]}… and not {tag.statement[:10]}…, as it says"

    def _digest(self, commit: str) -> str:
        try:
            return hashlib.sha256(statement_bytes(self.root, self.recipe, commit)).hexdigest()
        except SlmcompileError:
            return ""

    def _register(self, tag: Tag) -> str:
        wanted = number(tag.name.version)
        if wanted is None:
            return "versions are three numbers"
        if wanted in self.versions:
            return f"{wanted} is a version already"
        same = [each for each in self.versions.values() if each.commit == tag.commit]
        if same:
            return f"its commit is {same[0].number} already"
        self.versions[wanted] = Version(
            self.recipe, wanted, tag.commit, tag.statement, _person(tag), tag.when
        )
        return ""

    def _assign(self, tag: Tag) -> str:
        of = next((each for each in self.versions.values() if each.commit == tag.commit), None)
        if of is None:
            return "no version is of its commit"
        given = tag.name.action == "assign"
        self.assignments.append(
            Assignment(tag.name.stage, of.number, _person(tag), tag.when, given)
        )
        return ""

    def _revoke(self, tag: Tag) -> str:
        wanted = number(tag.name.version)
        if wanted is None or wanted not in self.versions:
            return "there was no such version to take back"
        self._take_back(self.versions[wanted], tag)
        return ""

    def _deprecate(self, tag: Tag) -> str:
        for version in self.versions.values():
            self._take_back(version, tag)
        return ""

    def _take_back(self, version: Version, tag: Tag) -> None:
        if not version.revoked:
            said = f"{tag.name} by {_person(tag)}"
            self.versions[version.number] = replace(version, revoked=said)


def _person(tag: Tag) -> str:
    return f"{tag.who.name} <{tag.who.email}>"
