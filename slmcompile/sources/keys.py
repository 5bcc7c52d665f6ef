"""Keys that sources share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from slmcompile.registry.scalars import RepoId, Revision
from slmcompile.registry.section import Section
from slmcompile.shapes.splits import Split

RepoKind = Literal["model", "dataset"]


class SourceKeys(Section):
    """Where something comes from."""

    type: str = Field(description="Which source.")


class HubKeys(SourceKeys):
    """A repository of the Hugging Face hub, at one commit."""

    kind: ClassVar[RepoKind]

    repo_id: RepoId = Field(description="Repository on the hub: `owner/name`.")
    revision: Revision | None = Field(
        None,
        description="Full 40-digit commit SHA; or a branch or tag (null: the default branch), whose"
        " commit `slmcompile lock` writes into the recipe's lock.",
    )


def train_named(splits: Mapping[Split, Any] | None) -> Mapping[Split, Any] | None:
    """The splits as they are given, of which training needs one."""
    if splits is not None and "train" not in splits:
        raise PydanticCustomError(
            "no_train_split",
            "has no train split",
            {"mend": "add `train`; validation and test are taken from it if missing"},
        )
    return splits
