"""The statement of a version, held against its tag; and whether a version may be given a stage."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from slmcompile.console.errors import CorruptError, RefusedError
from slmcompile.provenance.committed import statement_bytes
from slmcompile.recipe.project import Project
from slmcompile.versions.history import History, Version

if TYPE_CHECKING:
    from slmcompile.provenance.envelope import Sealed


def read_statement(project: Project, version: Version) -> Sealed:
    """What is stated of a version, signed by a key that the project trusts, if it trusts any.

    Raises:
        CorruptError: it is not what the tag names, is another recipe's, is damaged or not signed
            as it has to be (exit 74).
        MissingError: it is not here (exit 69).
    """
    from slmcompile.provenance.envelope import open_sealed
    from slmcompile.provenance.keys import trusted_keys

    data = statement_bytes(project.root, version.recipe, version.commit)
    shown = f"{version.shown}: its statement"
    if hashlib.sha256(data).hexdigest() != version.statement:
        raise CorruptError(f"{shown} is not the one that its tag names", "use another version")
    sealed = open_sealed(data, shown, tuple(trusted_keys(project).values()))
    if sealed.statement.recipe != version.recipe:
        raise CorruptError(
            f"{shown} is of recipe {sealed.statement.recipe!r}", "use another version"
        )
    return sealed


def require_good(project: Project, version: Version, history: History) -> None:
    """Checks that a version may have a stage.

    Raises:
        RefusedError: it was taken back, or a gate did not pass (exit 77).
        CorruptError, MissingError: as ``read_statement``.
    """
    require_kept(version, history)
    failed = [
        gate.text for gate in read_statement(project, version).statement.gates if not gate.passed
    ]
    if failed:
        raise RefusedError(
            f"{version.shown} did not pass its gates: {failed[0]}", _others(history, version)
        )


def require_kept(version: Version, history: History) -> None:
    """Checks that nobody has taken a version back.

    Raises:
        RefusedError: somebody has (exit 77).
    """
    if version.revoked:
        raise RefusedError(
            f"{version.shown} was taken back: {version.revoked}", _others(history, version)
        )


def _others(history: History, version: Version) -> str:
    kept = [str(each.number) for each in history.versions if not each.revoked and each != version]
    return f"name another: {', '.join(kept[-5:])}" if kept else "there is no other version"
