"""What the target has published of its recipes: which work is finished, and how long it took.

Read from statements and figures that a promotion brought to the target, by a job that has neither
network nor secret. A forecast for people: a run takes what it has verified itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from slmcompile.ci.commit import FOLDER
from slmcompile.console.errors import SlmcompileError
from slmcompile.files.revision import Revision
from slmcompile.provenance.committed import stated_recipes, statement_path
from slmcompile.provenance.envelope import open_sealed
from slmcompile.provenance.keys import trusted_keys
from slmcompile.provenance.statement import Statement
from slmcompile.recipe.project import Project

_LONGEST = 366 * 86400.0


@dataclass(frozen=True)
class Published:
    """What a commit of the target says.

    Args:
        project: of the repository.
        target: the commit.
        queued: whether it is asked for a merge queue, behind people who let it in. There the word
            of a head is taken where the target trusts no key: as without a queue, a promotion
            finds out.
    """

    project: Project
    target: Revision
    queued: bool = False

    @cached_property
    def _keys(self) -> tuple[bytes, ...]:
        return tuple(trusted_keys(self.project, self.target.commit).values())

    @cached_property
    def finished(self) -> frozenset[str]:
        """Fingerprints of the work of all statements."""
        found: set[str] = set()
        for recipe in stated_recipes(self.target):
            statement = self.statement(self.target, recipe)
            found |= {each.fingerprint for each in statement.stages} if statement else set()
        return frozenset(found)

    def seconds(self, recipe: str) -> float | None:
        """How long the training of a recipe took."""
        text = self.target.text(f"{FOLDER}/{recipe}/plots/train.json")
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            seconds = float(json.loads(text or "")["wall_seconds"])
            if 0 <= seconds <= _LONGEST:
                return seconds
        return None

    def statement(self, at: Revision, recipe: str) -> Statement | None:
        """A recipe's statement, if there is one that holds; signed where the target has keys."""
        text = at.text(statement_path(recipe))
        if text is None:
            return None
        with suppress(SlmcompileError):
            return open_sealed(text.encode("utf-8"), recipe, self._keys).statement
        return None

    def states(self, head: Revision, recipe: str, fingerprints: Mapping[str, str]) -> bool:
        """Whether a commit brings the statement of the very work that it plans.

        Never of a pull request where the target trusts no key: anybody could have written it.
        """
        believed = self._keys or self.queued
        statement = self.statement(head, recipe) if believed else None
        if statement is None or statement.recipe != recipe:
            return False
        return {each.stage: each.fingerprint for each in statement.stages} == dict(fingerprints)
