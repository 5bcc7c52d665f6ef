"""What a provider's packer gives, and is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slmcompile.execution.exports import Found
from slmcompile.recipe.project import Project
from slmcompile.release.measured import Measured
from slmcompile.release.programs import Asked


@dataclass(frozen=True)
class Packing:
    """An export that is about to be packed.

    Attributes:
        project: whose.
        found: the export.
        known: what was measured of it.
        asked: how it is asked; None where it does not say so as onnxruntime-genai does.
        provider: what it was built for.
        name: what the archive unpacks to.
    """

    project: Project
    found: Found
    known: Measured
    asked: Asked | None
    provider: str
    name: str


@dataclass(frozen=True)
class Packed:
    """What a package has beside the export, the card and the notice.

    Attributes:
        files: by their names in the folder.
        usage: paragraphs of the card on how it is used.
        works: a line for each work of others that is among the files, with its licence.
    """

    files: Mapping[str, bytes]
    usage: Sequence[str] = ()
    works: Sequence[str] = ()
