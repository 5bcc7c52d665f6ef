"""Statements as commits hold them: where, of which recipes, and the bytes of one.

Knows nothing of what a statement says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.files.git import MAX_ANSWER, ask
from slmcompile.files.revision import Revision, read_blob

STATEMENT = "statement.json"
"""What a recipe's statement is called in its folder of ``pipelines/``."""

_FOLDER = "pipelines"


def statement_path(recipe: str) -> str:
    """Where the statement of a recipe is committed."""
    return f"{_FOLDER}/{recipe}/{STATEMENT}"


def stated_recipes(at: Revision) -> Iterator[str]:
    """Names of the recipes that have a statement in a commit."""
    for path in at.entries(_FOLDER):
        recipe = path.removeprefix(f"{_FOLDER}/").removesuffix(f"/{STATEMENT}")
        if path == statement_path(recipe) and "/" not in recipe:
            yield recipe


def statement_bytes(root: Path, recipe: str, commit: str) -> bytes:
    """The bytes of a recipe's statement in a commit.

    Raises:
        MissingError: there is none, or the commit is not here (exit 69).
        CorruptError: it is too large to be one (exit 74).
    """
    path = statement_path(recipe)
    if ask(root, "cat-file", "-e", f"{commit}^{{commit}}").code != 0:
        raise MissingError(f"commit {commit[:10]} is not here", "fetch the whole history")
    entry = Revision(root, commit[:10], commit).file(path)
    if entry is None:
        raise MissingError(f"{path}@{commit[:10]}: there is none", "retrain and merge its result")
    if not 0 <= entry.size <= MAX_ANSWER:
        raise CorruptError(f"{path}@{commit[:10]}: is no statement by its size", "run `git fsck`")
    return read_blob(root, entry.blob)
