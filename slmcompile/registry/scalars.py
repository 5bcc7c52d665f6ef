"""Texts that recipes hold in many places: names, hashes, paths."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
REVISION_PATTERN = r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$"

Identifier = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Revision = Annotated[str, StringConstraints(pattern=REVISION_PATTERN, max_length=128)]
RepoId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+(/[\w.-]+)?$", max_length=128)]
DisplayName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,95}$")]
LONGEST_PATH = 512
ProjectPath = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PATH)]
ProjectPaths = (
    ProjectPath | Annotated[tuple[ProjectPath, ...], Field(min_length=1, max_length=1000)]
)
