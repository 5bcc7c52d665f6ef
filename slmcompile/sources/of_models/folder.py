"""Weights in a folder of the project."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.registry.scalars import ProjectPath
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.source import ModelSource


class FolderModel(SourceKeys):
    """Weights in a folder of the project: config.json, *.safetensors, tokenizer files."""

    type: Literal["folder"] = Field(description="Weights in a folder of the project.")
    path: ProjectPath = Field(description="The folder, relative to the project.")


ENTRIES = (
    ModelSource(
        name="folder",
        place=20,
        section=FolderModel,
        program="slmcompile.base.folder:fetch_folder",
        folder="path",
    ),
)
