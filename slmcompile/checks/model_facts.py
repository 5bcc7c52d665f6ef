"""What a base model's files say of it, read as data: JSON and safetensors headers, no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slmcompile.base.layout import weight_headers
from slmcompile.errors import SlmcompileError

_MAX_JSON = 64 << 20
# What reading JSON of a stranger's model can raise when its parts are of other types or too deep.
_NOT_AS_THEY_SHOULD_BE = (ValueError, RecursionError, AttributeError, KeyError, TypeError)


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """Facts of a base-model folder; equal by identity, as ``Architecture`` is.

    Attributes:
        where: the folder, as messages name it.
        config: ``config.json``.
        generation: ``generation_config.json``, empty where there is none.
        tokenizer: ``tokenizer_config.json``.
        tensors: shape of every stored tensor, by name (tied weights once).
        dtypes: safetensors dtype (``F16``, ``BF16``, ``F32``) of every stored tensor.
        files: names of all files in the folder.
        folder: where it lies.
        modules: class name and weight shape of every module with a weight, by module name;
            ``None`` unless ``plan --deep`` has built the model without weights.
    """

    where: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    files: tuple[str, ...]
    folder: Path = Path()
    modules: Mapping[str, tuple[str, tuple[int, ...]]] | None = None

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones once."""
        return sum(prod(shape) for shape in self.tensors.values())


def read_model_facts(folder: Path, where: str) -> ModelFacts | None:
    """The facts of a folder; ``None`` if it is not there or not a model folder."""
    try:
        config = json.loads(_text(folder / "config.json"))
        headers = weight_headers(folder, where)
        files = tuple(sorted(path.name for path in folder.iterdir()))
        tensors = {name: tuple(entry["shape"]) for name, entry in headers.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in headers.items()}
    except (OSError, SlmcompileError, *_NOT_AS_THEY_SHOULD_BE):
        return None
    if not isinstance(config, dict):
        return None
    return ModelFacts(
        where=where,
        config=config,
        generation=_optional(folder / "generation_config.json"),
        tokenizer=_optional(folder / "tokenizer_config.json"),
        tensors=tensors,
        dtypes=dtypes,
        files=files,
        folder=folder,
    )


def _optional(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        data = stream.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON} bytes")
    return data.decode()
