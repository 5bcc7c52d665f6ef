"""What came out of an approved training, as its job writes it down for the next one.

It lies in the pull request's folder of the store. The next job is told its SHA-256, and takes
nothing from it but words to say: whether bars are met and what was made it finds by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from slmcompile.ci.proposal import Commit, Text
from slmcompile.ci.store import Store
from slmcompile.console.errors import CorruptError, UsageError
from slmcompile.files.artifact import json_text
from slmcompile.registry.scalars import Identifier, Sha256

FORMAT_VERSION = "1.0"


@dataclass(frozen=True)
class RecipeResult:
    """How the run of a recipe has ended.

    Attributes:
        recipe: its name.
        code: exit code; 0 where all is done and every bar met.
        what: what was wrong, one line; empty where nothing was.
        mend: how to mend it.
    """

    recipe: Identifier
    code: Annotated[int, Field(ge=0, le=255)]
    what: Text = ""
    mend: Text = ""


@dataclass(frozen=True)
class Record:
    """An approved training that has ended.

    Attributes:
        digest: what was approved.
        head: the commit that was trained.
        target: the target's tip then.
        recipes: in the order in which they ran.
    """

    digest: Sha256
    head: Commit
    target: Commit
    recipes: Annotated[tuple[RecipeResult, ...], Field(max_length=1000)]
    format_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = FORMAT_VERSION

    @property
    def code(self) -> int:
        """Exit code of the whole: that of the first recipe that did not end well."""
        return next((each.code for each in self.recipes if each.code), 0)


_RECORD = TypeAdapter(Record)


def write(store: Store, record: Record) -> str:
    """Writes a record; returns its SHA-256."""
    data = json_text(asdict(record)).encode("utf-8")
    store.write(_name(record.digest), data)
    return hashlib.sha256(data).hexdigest()


def read(store: Store, digest: str, sha256: str) -> Record:
    """The record of what was approved.

    Raises:
        UsageError: there is none (exit 64).
        CorruptError: it is another than the one that was written (exit 74).
    """
    data = store.read(_name(digest))
    if data is None:
        raise UsageError(f"{store.shown}: nothing was trained for {digest[:12]}", "train first")
    try:
        record = _RECORD.validate_json(data, strict=True)
    except ValueError as error:
        raise CorruptError(f"{store.shown}: {_name(digest)}: no record", "train anew") from error
    if hashlib.sha256(data).hexdigest() != sha256 or record.digest != digest:
        raise CorruptError(
            f"{store.shown}: {_name(digest)}: not what the training wrote", "train anew"
        )
    return record


def _name(digest: str) -> str:
    return f"results/{digest}.json"
