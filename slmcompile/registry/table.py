"""A table: every entry of one kind, by name, found in the modules of one folder.

A module of the folder declares ``ENTRIES``, a tuple of frozen records. Whatever must know what
there is (schema, builder, checks, estimates, report) asks the table; what an entry does is loaded
later, by the name of its program, where it is done.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar


class Named(Protocol):
    """What every entry has."""

    @property
    def name(self) -> str:
        """As recipes and files write it."""

    @property
    def epoch(self) -> int:
        """Raised by hand when what it does changes a result."""


E = TypeVar("E", bound=Named)


class Table(Mapping[str, E]):
    """Entries by name, in a fixed order.

    Args:
        kind: what an entry is, for messages: ``train method``.
        package: the folder whose modules declare them.
        order: sorts them; by name where it is not given.
    """

    def __init__(
        self, kind: str, package: str, order: Callable[[E], Any] = lambda entry: entry.name
    ) -> None:
        self.kind = kind
        self._package = package
        self._order = order
        self._entries: dict[str, E] | None = None
        self._watchers: list[Callable[[], None]] = []

    def _loaded(self) -> dict[str, E]:
        if self._entries is None:
            folder = importlib.import_module(self._package)
            modules = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
            found = [
                entry
                for name in modules
                for entry in getattr(
                    importlib.import_module(f"{self._package}.{name}"), "ENTRIES", ()
                )
            ]
            self._entries = self._sorted(found)
        return self._entries

    def _sorted(self, entries: list[E]) -> dict[str, E]:
        by_name = {entry.name: entry for entry in sorted(entries, key=self._order)}
        if len(by_name) < len(entries):
            names = [entry.name for entry in entries]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{self.kind} {', '.join(twice)} is declared twice")
        return by_name

    def __getitem__(self, name: str) -> E:
        return self._loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def raised(self, *names: str) -> dict[str, int]:
        """Epochs of entries that a stage's result depends on, as its identity has them.

        Only those above 1: an entry that never changed its mind is in no identity.
        """
        entries = [self[name] for name in names]
        return {f"{self.kind} {entry.name}": entry.epoch for entry in entries if entry.epoch > 1}

    @contextmanager
    def joined_by(
        self, *entries: E, without: Callable[[E], bool] = lambda _: False
    ) -> Iterator[None]:
        """Entries that are there for the block alone: those of a project's plug-ins, or a test's.

        Args:
            entries: they.
            without: entries that are not there for the block.

        Raises:
            ValueError: a name is taken.
        """
        before = self._loaded()
        kept = [entry for entry in before.values() if not without(entry)]
        self._replace(self._sorted([*kept, *entries]))
        try:
            yield
        finally:
            self._replace(before)

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` whenever entries have joined or left."""
        self._watchers.append(changed)

    def _replace(self, entries: dict[str, E]) -> None:
        self._entries = entries
        for changed in self._watchers:
            changed()


def program(reference: str) -> Any:
    """What an entry does: ``package.module:name``, imported now.

    Raises:
        ValueError: the reference has another form.
    """
    module, _, name = reference.partition(":")
    if not name:
        raise ValueError(f"{reference!r} is no package.module:name")
    return getattr(importlib.import_module(module), name)
