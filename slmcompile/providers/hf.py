"""A folder for transformers, and for whatever else reads the hub's layout (vLLM, TGI, SGLang)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.provider import Provider, Shown
from slmcompile.shapes.architecture import Architecture

_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}


class HfTarget(Target):
    """Merged safetensors in the hub's layout, in fp32 or rounded to 16 bits."""

    execution_provider: ProviderName = "hf"
    precision: Literal["fp32", "bf16", "fp16"] = Field(description="Type of the exported weights.")


class CausalLanguageModels(Mapping[str, str]):
    """``model_type`` → class, of all that the installed transformers opens as a causal LM.

    Its own table is read as text: importing transformers takes seconds, and a plan needs none of
    it.
    """

    def __getitem__(self, family: str) -> str:
        return self._read[family]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    @cached_property
    def _read(self) -> dict[str, str]:
        found = find_spec("transformers")
        if found is None or found.origin is None:
            return {}
        text = (Path(found.origin).parent / "models/auto/modeling_auto.py").read_text("utf-8")
        start = text.index("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(")
        table = text[start : text.index("\n)", start)]
        return dict(re.findall(r'\("([^"]+)", "([^"]+)"\)', table))


def export_bytes(target: HfTarget, model: Architecture) -> float:
    """Bytes of the safetensors."""
    return _BYTES[target.precision] * model.parameters


def built_with(_target: HfTarget, model: Architecture) -> float:
    """Bytes that the builder holds at once: one tensor, as it was and as it is rounded."""
    largest = max((rows * width for rows, width in model.layers.values()), default=0)
    return 6.0 * max(largest, *(rows * width for rows, width in model.others.values()), 0)


ENTRIES = (
    Provider(
        name="hf",
        title="Transformers",
        section=HfTarget,
        builder="slmcompile.export.hf_builder:build",
        opener="slmcompile.inference.hf_folder:load",
        made_by="transformers",
        packages=("safetensors", "tokenizers"),
        runs_on=("torch", "transformers", "tokenizers"),
        architectures=CausalLanguageModels(),
        families="causal language",
        bytes=export_bytes,
        built_with=built_with,
        computed_by="config.json",
        devices=frozenset({"server"}),
        shown=Shown(
            library="transformers",
            tags=("safetensors", "transformers"),
            form="merged into safetensors",
            usage="slmcompile.report.snippets:transformers",
        ),
        tokenizer_writer="slmcompile.models.tokenizer_files:copy_tokenizer",
    ),
)
