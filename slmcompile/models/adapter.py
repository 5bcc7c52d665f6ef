"""LoRA adapters by PEFT: attaching one to a base model, and writing it byte for byte the same.

Knows PEFT's configuration and file format; knows nothing of the loop.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slmcompile.console.errors import BadRecipeError
from slmcompile.files.artifact import saying_what_is_missing, write_json
from slmcompile.methods.lora import Lora
from slmcompile.shapes.target_modules import leaf, matched, patterns_of

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def resolve_target_modules(model: Any, target_modules: str | tuple[str, ...]) -> list[str]:
    """Sorted ``target_modules`` for PEFT, every one of them proved to match something.

    Raises:
        BadRecipeError: a pattern that matches no module that LoRA can adapt (exit 78).
    """
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)]
    head = model.get_output_embeddings()
    inner = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    patterns = patterns_of(target_modules, inner, set(names) - set(inner))
    for pattern in patterns:
        _require_match("target_modules", pattern, names)
    return patterns


def _require_match(key: str, pattern: str, names: list[str]) -> None:
    if not matched(names, [pattern]):
        available = ", ".join(sorted({leaf(name) for name in names}))
        raise BadRecipeError(
            f"train.lora.{key}: {pattern!r} matches no module of the base model",
            f"choose from: {available}",
        )


def attach(model: Any, lora: Lora) -> Any:
    """Injects a fresh adapter named ``default`` and freezes the rest; returns the PeftModel.

    Draws the initial weights from torch's global generator.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    for pattern in lora.modules_to_save:
        _require_match("modules_to_save", pattern, [n for n, m in model.named_modules() if n])
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=_whole(lora.lora_alpha),
        lora_dropout=lora.lora_dropout,
        target_modules=resolve_target_modules(model, lora.target_modules),
        modules_to_save=sorted(lora.modules_to_save) or None,
        use_rslora=lora.use_rslora,
    )
    with warnings.catch_warnings():
        # peft 0.21 reads `is_gradient_checkpointing`, which transformers 5.23 has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def _whole(value: float) -> Any:
    """PEFT declares lora_alpha an integer; 32.0 is written as 32, 0.5 stays."""
    return int(value) if value == int(value) else value


def write_adapter(model: Any, weights: Mapping[str, torch.Tensor], out: Path) -> None:
    """Writes PEFT's two files; equal weights give equal bytes.

    PEFT's ``save_pretrained`` would also write a model card, the base model's path on this
    machine, and sets in an order that depends on the hash seed (peft 0.21).

    Args:
        model: the PeftModel that ``attach`` returned.
        weights: trained weights by parameter name of ``model``, fp32.
        out: an existing folder.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    state = get_peft_model_state_dict(model, state_dict=dict(weights), save_embedding_layers=False)
    settings: dict[str, Any] = model.peft_config["default"].to_dict()
    settings.update(base_model_name_or_path=None, inference_mode=True, auto_mapping=None)
    tensors = {name: state[name].contiguous() for name in sorted(state)}
    write_bytes(out / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_json(out / CONFIG_FILE, _plain(settings))


def _plain(value: Any) -> Any:
    """JSON values: sets sorted, enumerations by value."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(each) for each in value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return getattr(value, "value", value)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file and waits until the disk has it."""
    with saying_what_is_missing(path), path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
