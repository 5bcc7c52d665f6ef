"""The keys of a target that every provider has; a provider's own stand beside its declaration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slmcompile.providers import PROVIDERS
from slmcompile.registry.markers import NameIn
from slmcompile.registry.section import Section

ProviderName = Annotated[
    str, NameIn(PROVIDERS), Field(description="ONNX Runtime execution provider it is built for.")
]


class Target(Section):
    """One exported artifact: an execution provider and a precision of onnxruntime-genai."""

    execution_provider: ProviderName
    precision: str = Field(description="Type of the exported weights.")
