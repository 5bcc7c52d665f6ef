"""``slmcompile lock``: looks at what the recipes refer to and writes it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slmcompile.console.errors import SlmcompileError
from slmcompile.hub.commit import commit_of
from slmcompile.lock.file import NAME, read_lock, write_lock
from slmcompile.lock.references import Reference, references, short
from slmcompile.plans.builder import build
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project


@dataclass(frozen=True)
class Locked:
    """What ``lock`` did.

    Attributes:
        added: references that were not in the lock.
        upgraded: references that stand for something else now: (reference, old, new).
        outdated: the same, left alone as no upgrade was asked for.
        removed: references that no recipe has any more.
    """

    added: tuple[str, ...] = ()
    upgraded: tuple[tuple[str, str, str], ...] = ()
    outdated: tuple[tuple[str, str, str], ...] = ()
    removed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line each, for a person."""
        return [
            *(f"added     {key}" for key in self.added),
            *(f"upgraded  {key}  {_pair(old, new)}" for key, old, new in self.upgraded),
            *(
                f"kept      {key}  {_pair(old, new)} (--upgrade takes the new one)"
                for key, old, new in self.outdated
            ),
            *(f"removed   {key}" for key in self.removed),
        ]


@dataclass
class _Entries:
    """The lock's entries while they are being looked at."""

    entries: dict[str, str]
    added: list[str] = field(default_factory=list)
    upgraded: list[tuple[str, str, str]] = field(default_factory=list)
    outdated: list[tuple[str, str, str]] = field(default_factory=list)

    def take(self, key: str, new: str, *, upgrade: bool) -> None:
        old = self.entries.get(key)
        if old is None:
            self.added.append(key)
        elif old == new:
            return
        elif not upgrade:
            self.outdated.append((key, old, new))
            return
        else:
            self.upgraded.append((key, old, new))
        self.entries[key] = new


def update_lock(project: Project, recipes: Sequence[str] = (), *, upgrade: bool = False) -> Locked:
    """Adds what is missing to ``slmcompile.lock``; with ``upgrade`` brings all up to date.

    An upgrade of all recipes also removes what none of them refers to. Writes all or nothing.

    Args:
        project: the project.
        recipes: names; none means every recipe.
        upgrade: look again at what is locked already.

    Raises:
        SlmcompileError: a hub reference must be resolved and the hub cannot be reached (exit 69),
            or knows no such repository or revision (exit 78).
    """
    found: dict[str, Reference] = {}
    where: dict[str, str] = {}
    for name in recipes or project.names():
        composed = compose(project, name)
        for reference in references(composed.recipe, build(project, composed)):
            found.setdefault(reference.key, reference)
            place = f"{composed.origin(reference.origin)}: {'.'.join(reference.origin)}"
            where.setdefault(reference.key, place)
    lock = read_lock(project)
    made = _Entries(dict(lock.entries) if lock else {})
    for key, reference in sorted(found.items()):
        if reference.found is None and key in made.entries and not upgrade:
            continue
        made.take(key, reference.found or _resolve(reference, where[key]), upgrade=upgrade)
    removed = sorted(made.entries.keys() - found.keys()) if upgrade and not recipes else []
    for key in removed:
        del made.entries[key]
    if lock is None or dict(lock.entries) != made.entries:
        write_lock(project, made.entries)
    return Locked(tuple(made.added), tuple(made.upgraded), tuple(made.outdated), tuple(removed))


def _resolve(reference: Reference, where: str) -> str:
    assert reference.hub is not None  # noqa: S101 (everything else is found locally)
    try:
        return f"commit:{commit_of(*reference.hub)}"
    except SlmcompileError as error:
        raise SlmcompileError(f"{where}: {error.what}", error.mend, code=error.code) from error


def answer(recipes: Sequence[str], *, upgrade: bool) -> str:
    """Runs ``slmcompile lock`` in the current project and says what it did."""
    from slmcompile.recipe.project import find_project

    done = update_lock(find_project(), recipes, upgrade=upgrade)
    return "".join(f"{line}\n" for line in done.lines()) or f"{NAME} is up to date\n"


def _pair(old: str, new: str) -> str:
    return f"{short(old)} → {short(new)}"
