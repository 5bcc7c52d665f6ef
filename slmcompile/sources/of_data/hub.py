"""A data set of the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator

from slmcompile.registry.scalars import DisplayName, RepoId
from slmcompile.shapes.splits import Split
from slmcompile.sources.keys import HubKeys, RepoKind, train_named
from slmcompile.sources.source import DataSource

SplitSlice = Annotated[str, StringConstraints(pattern=r"^[\w.-]+(\[[\d:%-]*\])?$")]


class HubData(HubKeys):
    """A data set of the Hugging Face hub at one commit, with split slices (`train[:4096]`)."""

    kind: ClassVar[RepoKind] = "dataset"

    type: Literal["hub"] = Field(description="A data set of the Hugging Face hub.")
    repo_id: RepoId = Field(description="Data set on the hub: `owner/name`.")
    config_name: DisplayName | None = Field(
        None, description="Configuration (subset) of the data set; null takes its default."
    )
    splits: dict[Split, SplitSlice] = Field(
        description="Split or slice of the hub for each of ours: {train: `train[:4096]`}."
    )

    _with_train = field_validator("splits")(train_named)


def _splits(source: HubData) -> frozenset[Split]:
    return frozenset(source.splits)


ENTRIES = (
    DataSource(
        name="hub",
        place=20,
        section=HubData,
        program="slmcompile.data.hub:read_hub",
        splits=_splits,
        fetches=True,
        packages=("datasets",),
    ),
)
