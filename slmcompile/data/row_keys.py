"""What the split needs to know of rows, column by column: a million rows are some megabytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slmcompile.data.normalise import normalised

Digests = npt.NDArray[np.uint64]
"""Hashes of texts, one a row, as numbers that are ordered as their bytes are."""

NONE = -1
"""The code of what a row does not have."""


@dataclass(frozen=True, slots=True)
class Item:
    """What the split needs to know of a row.

    Attributes:
        prompt: rendered prompt text; equal normalised prompts stay together.
        stratum: kept in proportion over the splits, or empty.
        group: rows of one group stay together, or None.
        together: rows of one conversation stay together, or None.
    """

    prompt: str
    stratum: str = ""
    group: str | None = None
    together: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """The same of many rows.

    Attributes:
        prompts: digests of normalised prompts.
        orders: SHA-256 of seed and key, which is the group or else the normalised prompt.
        strata: codes of strata.
        names: the strata by code.
        groups: codes of groups.
        together: codes of conversations.
        key: the key of a row, by its number.
        prompt: its normalised prompt.
    """

    prompts: Digests
    orders: Digests
    strata: npt.NDArray[np.int64]
    names: Sequence[str]
    groups: npt.NDArray[np.int64]
    together: npt.NDArray[np.int64]
    key: Callable[[int], str]
    prompt: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.prompts)

    def of(self, rows: npt.NDArray[np.int64]) -> Keys:
        """Those of some rows."""
        return replace(
            self,
            prompts=self.prompts[rows],
            orders=self.orders[rows],
            strata=self.strata[rows],
            groups=self.groups[rows],
            together=self.together[rows],
            key=lambda number: self.key(int(rows[number])),
            prompt=lambda number: self.prompt(int(rows[number])),
        )


class Codes:
    """Numbers for texts, as they come."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, texts: Iterable[str | None]) -> npt.NDArray[np.int64]:
        """The number of each; ``NONE`` of None."""
        known = self._known
        return np.fromiter(
            (NONE if text is None else known.setdefault(text, len(known)) for text in texts),
            dtype=np.int64,
        )

    @property
    def names(self) -> list[str]:
        """The texts by number."""
        return list(self._known)


def digest(text: str) -> bytes:
    """16 bytes by which a text is told from others."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def order_of(seed: int, key: str) -> bytes:
    """32 bytes that put keys into an order, another with another seed."""
    return hashlib.sha256(f"{seed}\x00{key}".encode()).digest()


def digests(found: Iterable[bytes], size: int) -> Digests:
    """Digests of so many bytes each."""
    return np.frombuffer(b"".join(found), dtype=">u8").reshape(-1, size // 8).astype(np.uint64)


def alike(found: Digests) -> npt.NDArray[np.int64]:
    """A number for each digest, the same for the same."""
    order = np.lexsort(found.T)
    ordered = found[order]
    new = np.zeros(len(found), dtype=np.int64)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    codes = np.empty(len(found), dtype=np.int64)
    codes[order] = np.cumsum(new)
    return codes


def keys_of(items: Sequence[Item], seed: int) -> Keys:
    """The keys of rows."""
    prompts = [normalised(item.prompt) for item in items]
    keys = [
        prompt if item.group is None else item.group
        for item, prompt in zip(items, prompts, strict=True)
    ]
    strata, groups, together = Codes(), Codes(), Codes()
    return Keys(
        prompts=digests(map(digest, prompts), 16),
        orders=digests((order_of(seed, key) for key in keys), 32),
        strata=strata.of(item.stratum for item in items),
        names=strata.names,
        groups=groups.of(item.group for item in items),
        together=together.of(item.together for item in items),
        key=keys.__getitem__,
        prompt=prompts.__getitem__,
    )
