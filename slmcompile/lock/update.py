"""``slmcompile lock``: looks at what the recipes refer to and writes it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slmcompile.console.errors import SlmcompileError
from slmcompile.hub.commit import commit_of
from slmcompile.lock.file import FOLDER, lock_name, read_lock, write_lock
from slmcompile.lock.references import Reference, references, short
from slmcompile.plans.builder import build
from slmcompile.recipe.compose import Composed, compose
from slmcompile.recipe.project import Project


@dataclass(frozen=True)
class Locked:
    """What ``lock`` did.

    Attributes:
        added: references that were not in the lock.
        upgraded: references that stand for something else now: (reference, old, new).
        outdated: the same, left alone as no upgrade was asked for.
        removed: references that none of those recipes has any more.
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
    """The entries of every recipe's lock while they are being looked at."""

    files: dict[str, dict[str, str]]
    added: dict[str, None] = field(default_factory=dict)
    upgraded: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    outdated: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def known(self, recipe: str, key: str) -> str | None:
        """What a recipe's lock has; else another's, so that what two share is one version."""
        files = (self.files.get(recipe, {}), *self.files.values())
        return next((entries[key] for entries in files if key in entries), None)

    def take(self, recipe: str, key: str, new: str, *, upgrade: bool) -> str:
        """What the lock is to say."""
        old = self.known(recipe, key)
        if old is None:
            self.added[key] = None
        elif old != new and not upgrade:
            self.outdated[key] = (key, old, new)
            return old
        elif old != new:
            self.upgraded[key] = (key, old, new)
        return new


def update_lock(project: Project, recipes: Sequence[str] = (), *, upgrade: bool = False) -> Locked:
    """Adds what is missing to the recipes' locks; with ``upgrade`` brings all of it up to date.

    An upgrade also removes what the recipe does not refer to any more, and one of all recipes the
    locks of recipes that are not there any more. Writes all or nothing.

    Args:
        project: the project.
        recipes: names; none means every recipe.
        upgrade: look again at what is locked already.

    Raises:
        SlmcompileError: a hub reference must be resolved and the hub cannot be reached (exit 69),
            or knows no such repository or revision (exit 78).
    """
    looked = _Entries({name: _entries(project, name) for name in _locked(project)})
    asked: dict[str, str] = {}
    made: dict[str, dict[str, str]] = {}
    for name in recipes or project.names():
        composed = compose(project, name)
        own = {} if upgrade else dict(looked.files.get(name, {}))
        found_here = references(build(project, composed))
        for reference in sorted(found_here, key=lambda each: each.key):
            key, found = reference.key, reference.found or asked.get(reference.key)
            known = looked.known(name, key)
            if found is None and known and not upgrade:
                own[key] = known
                continue
            if found is None:
                found = asked[key] = _resolve(reference, _place(composed, reference))
            own[key] = looked.take(name, key, found, upgrade=upgrade)
        made[name] = own
    gone = [] if recipes or not upgrade else sorted(looked.files.keys() - made.keys())
    for name, entries in made.items():
        if looked.files.get(name) != entries:
            write_lock(project, name, entries)
    for name in gone:
        (project.root / lock_name(name)).unlink()
    before = {key for name in (*made, *gone) for key in looked.files.get(name, {})}
    removed = sorted(before - {key for entries in made.values() for key in entries})
    return Locked(
        tuple(sorted(looked.added)),
        tuple(each for _, each in sorted(looked.upgraded.items())),
        tuple(each for _, each in sorted(looked.outdated.items())),
        tuple(removed),
    )


def _locked(project: Project) -> list[str]:
    """Names of the recipes that have a lock."""
    return sorted(path.stem for path in (project.root / FOLDER).glob("*.lock"))


def _entries(project: Project, recipe: str) -> dict[str, str]:
    lock = read_lock(project, recipe)
    return dict(lock.entries) if lock else {}


def _place(composed: Composed, reference: Reference) -> str:
    return f"{composed.origin(reference.origin)}: {'.'.join(reference.origin)}"


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
    return "".join(f"{line}\n" for line in done.lines()) or "the locks are up to date\n"


def _pair(old: str, new: str) -> str:
    return f"{short(old)} → {short(new)}"
