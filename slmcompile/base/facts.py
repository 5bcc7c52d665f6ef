"""What a base model's files say of it, read as data: JSON and safetensors headers, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slmcompile.base.layout import MAX_CONFIG, tied_once, weight_headers
from slmcompile.console.errors import SlmcompileError
from slmcompile.files.safe_read import read_output_json

_MOST = 1 << 31


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
    def language(self) -> Mapping[str, Any]:
        """``config.json``, and of a model that also sees or hears its ``text_config`` before it."""
        return _language(self.config)

    @property
    def context_length(self) -> int | None:
        """Tokens that the model can see at once; None where it does not say."""
        return _context_length(self.config)

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones once."""
        return sum(prod(shape) for shape in self.tensors.values())


def read_model_facts(folder: Path, where: str) -> ModelFacts | None:
    """The facts of a folder; ``None`` if it is not there or not a model folder."""
    config = read_output_json(folder, "config.json", MAX_CONFIG)
    if not isinstance(config, dict):
        return None
    try:
        headers = tied_once(weight_headers(folder, where), config)
        files = tuple(sorted(path.name for path in folder.iterdir()))
    except (OSError, SlmcompileError):
        return None
    return ModelFacts(
        where=where,
        config=config,
        generation=_optional(folder, "generation_config.json"),
        tokenizer=_optional(folder, "tokenizer_config.json"),
        tensors={name: tuple(entry["shape"]) for name, entry in headers.items()},
        dtypes={name: entry["dtype"] for name, entry in headers.items()},
        files=files,
        folder=folder,
    )


def read_context_length(folder: Path) -> int | None:
    """Of a model folder of which nothing else is needed; None where it does not say."""
    return _context_length(_optional(folder, "config.json"))


def _language(config: Mapping[str, Any]) -> Mapping[str, Any]:
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, Mapping) else config


def _context_length(config: Mapping[str, Any]) -> int | None:
    language = _language(config)
    return size_in(language, "max_position_embeddings") or size_in(language, "n_positions")


def size_in(config: Mapping[str, Any], name: str) -> int | None:
    """A size of ``config.json``; None where it is not there or could not be one."""
    value = config.get(name)
    return value if type(value) is int and 0 < value < _MOST else None


def _optional(folder: Path, name: str) -> dict[str, Any]:
    value = read_output_json(folder, name, MAX_CONFIG)
    return value if isinstance(value, dict) else {}
