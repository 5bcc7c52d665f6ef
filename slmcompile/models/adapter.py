"""LoRA adapters by PEFT: attaching one to a base model, and writing it byte for byte the same.

Knows PEFT's configuration and file format; knows nothing of the loop.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
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
    layers = {n: m for n, m in modules_of_base(model) if isinstance(m, nn.Linear | nn.Embedding)}
    names, head = list(layers), _plain_layer(model.get_output_embeddings())
    inner = [n for n, m in layers.items() if isinstance(m, nn.Linear) and m is not head]
    patterns = patterns_of(target_modules, inner, set(names) - set(inner))
    for pattern in patterns:
        _require_match("target_modules", pattern, names)
    return patterns


def modules_of_base(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Modules by their names in the base model, whatever adapters there are in it already."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    wrapped = ""
    for name, module in base.named_modules():
        if wrapped and name.startswith(wrapped):
            continue
        plain = _plain_layer(module)
        if plain is not module:
            wrapped = f"{name}."
        yield name, plain


def _plain_layer(module: Any) -> Any:
    """What an adapter of PEFT's stands around; the module itself where none does."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module


def _require_match(key: str, pattern: str, names: list[str]) -> None:
    if not matched(names, [pattern]):
        available = ", ".join(sorted({leaf(name) for name in names}))
        raise BadRecipeError(
            f"train.lora.{key}: {pattern!r} matches no module of the base model",
            f"choose from: {available}",
        )


def attach(model: Any, lora: Lora, adapter: str = "default") -> Any:
    """Injects a fresh adapter and freezes the rest; returns the PeftModel.

    Draws the initial weights from torch's global generator.

    Args:
        model: a causal language model, or the PeftModel that has other adapters in it.
        lora: the adapter's shape.
        adapter: its name in the model.
    """
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    for pattern in lora.modules_to_save:
        _require_match("modules_to_save", pattern, [n for n, _ in modules_of_base(model) if n])
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
        if not isinstance(model, PeftModel):
            return get_peft_model(model, config, adapter)
        model.add_adapter(adapter, config)
        model.set_adapter(adapter)
        return model


def _whole(value: float) -> Any:
    """PEFT declares lora_alpha an integer; 32.0 is written as 32, 0.5 stays."""
    return int(value) if value == int(value) else value


def write_adapter(
    model: Any, weights: Mapping[str, torch.Tensor], out: Path, adapter: str = "default"
) -> None:
    """Writes PEFT's two files; equal weights give equal bytes.

    PEFT's ``save_pretrained`` would also write a model card, the base model's path on this
    machine, and sets in an order that depends on the hash seed (peft 0.21).

    Args:
        model: the PeftModel that ``attach`` returned.
        weights: trained weights by parameter name of ``model``, fp32.
        out: an existing folder.
        adapter: its name in the model.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    state = get_peft_model_state_dict(
        model, state_dict=dict(weights), adapter_name=adapter, save_embedding_layers=False
    )
    settings: dict[str, Any] = model.peft_config[adapter].to_dict()
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
