"""The matrices of a LoRA adapter that stands beside its base, from PEFT's files, without torch.

Knows PEFT's configuration and file format; knows nothing of graphs and of models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import CorruptError, StageFailedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<which>[AB])\.weight")

_MORE_THAN_LOW_RANK = {
    "use_dora": "DoRA",
    "modules_to_save": "modules_to_save",
    "trainable_token_indices": "trainable tokens",
    "target_parameters": "target_parameters",
    "layer_replication": "layer_replication",
    "lora_bias": "a bias of its own",
    "use_qalora": "QALoRA",
    "alora_invocation_tokens": "activated LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
    "kasa_config": "KaSA",
}
"""Settings of peft 0.21 by which more is computed than x·Aᵀ·Bᵀ, in plain words."""


@dataclass(frozen=True, eq=False, slots=True)
class LowRank:
    """What an adapter adds to a linear layer's output: ``x @ down.T @ up.T``, both fp32.

    Attributes:
        down: A, [rank, in].
        up: B, [out, rank], times the adapter's scale.
    """

    down: NDArray[Any]
    up: NDArray[Any]

    @property
    def rank(self) -> int:
        """Features between the two."""
        return int(self.down.shape[0])


def read_low_rank(folder: Path) -> dict[str, LowRank]:
    """The matrices by the module's name in the base model, in the order of the names.

    Args:
        folder: has PEFT's two files.

    Raises:
        CorruptError: a file is missing, cannot be read or contradicts the other (exit 74).
        StageFailedError: the adapter is more than low-rank matrices on linear layers, or its
            weights are not finite (exit 1).
    """
    config = _config(folder / CONFIG_FILE)
    for key, title in _MORE_THAN_LOW_RANK.items():
        if config.get(key):
            raise _cannot_stand_beside(folder, title)
    pairs: dict[str, dict[str, NDArray[Any]]] = {}
    for name, tensor in sorted(_tensors(folder / WEIGHTS_FILE).items()):
        named = _TENSOR.fullmatch(name)
        if named is None:
            raise _cannot_stand_beside(folder, f"the tensor {name}")
        pairs.setdefault(named["module"], {})[named["which"]] = tensor
    return {module: _scaled(folder, config, module, pair) for module, pair in pairs.items()}


def _scaled(
    folder: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, NDArray[Any]]
) -> LowRank:
    import numpy as np

    rank = _by_pattern(config.get("rank_pattern") or {}, module, config["r"])
    alpha = _by_pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
    shapes = {which: tensor.shape for which, tensor in pair.items() if tensor.ndim == 2}
    if set(shapes) != {"A", "B"} or shapes["A"][0] != rank or shapes["B"][1] != rank:
        raise CorruptError(
            f"{folder / WEIGHTS_FILE}: {module} has no two matrices of rank {rank}",
            "train it again",
        )
    scale = alpha / (sqrt(rank) if config.get("use_rslora") else rank)
    down, up = (pair[which].astype(np.float32) for which in "AB")
    up *= np.float32(scale)
    if not (np.isfinite(down).all() and np.isfinite(up).all()):
        raise StageFailedError(
            f"{folder}: the adapter's weights of {module} are not finite",
            "train with a lower learning rate",
        )
    return LowRank(down, up)


def _by_pattern(patterns: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """As PEFT resolves ``rank_pattern`` and ``alpha_pattern``: the first that fits."""
    fitting = (p for p in patterns if re.match(rf"(.*\.)?({p})$", module) is not None)
    return next((patterns[pattern] for pattern in fitting), otherwise)


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    wanted = {"r": int, "lora_alpha": int | float}
    if (
        not isinstance(found, dict)
        or found.get("peft_type") != "LORA"
        or not all(isinstance(found.get(key), kind) for key, kind in wanted.items())
    ):
        raise CorruptError(f"{path}: no LoRA adapter of PEFT's", "train it again")
    return found


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    if not found:
        raise CorruptError(f"{path}: no adapter's weights are in it", "train it again")
    return found


def _unreadable(path: Path, error: Exception) -> CorruptError:
    reason = "it is missing" if isinstance(error, FileNotFoundError) else f"unreadable ({error})"
    return CorruptError(f"{path}: {reason}", "train it again")


def _cannot_stand_beside(folder: Path, what: str) -> StageFailedError:
    return StageFailedError(
        f"{folder}: an adapter with {what} cannot stand beside its base in an ONNX graph",
        "train LoRA on linear layers alone, or over the full-precision base, where it is merged",
    )
