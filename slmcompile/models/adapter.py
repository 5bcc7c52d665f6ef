"""LoRA adapters by PEFT: attaching one to a base model, and writing it byte for byte the same.

What is written is always a plain adapter of the base as it was fetched.

Knows PEFT's configuration and file format; knows nothing of the loop.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from slmcompile.console.errors import BadRecipeError, CorruptError
from slmcompile.files.artifact import saying_what_is_missing, write_json
from slmcompile.methods.lora import OF_THE_BASE, Lora, adapted
from slmcompile.methods.unmatched import unmatched
from slmcompile.models.adapter_init import begin
from slmcompile.shapes.target_modules import leaf, matches, most_specific, patterns_of

T = TypeVar("T")

_FIRST = "slmcompile_first"
"""Attribute of a PeftModel: the adapter as it began, where that was taken out of the base."""

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


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


def attach(
    model: Any,
    lora: Lora,
    adapter: str = "default",
    weight_of: Callable[[str], torch.Tensor] | None = None,
) -> Any:
    """Injects a fresh adapter and freezes the rest; returns the PeftModel.

    Draws the initial weights from torch's global generator.

    Args:
        model: a causal language model, or the PeftModel that has other adapters in it.
        lora: the adapter's shape.
        adapter: its name in the model.
        weight_of: the weight of a layer at full precision, by its name, where the model holds it
            in 4 bits.

    Raises:
        BadRecipeError: a name that means no module that LoRA can adapt, or a layer that DoRA or the
            beginning cannot take (exit 78).
    """
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    targets, layers = _targets(model, lora)
    begins = lora.init_lora_weights in OF_THE_BASE
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=_whole(lora.lora_alpha),
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        modules_to_save=sorted(lora.modules_to_save) or None,
        rank_pattern=_by_layer(lora.rank_pattern, layers),
        alpha_pattern=_by_layer(
            {name: _whole(alpha) for name, alpha in lora.alpha_pattern.items()}, layers
        ),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        init_lora_weights=True if begins else lora.init_lora_weights,
    )
    with warnings.catch_warnings():
        # peft 0.21 reads `is_gradient_checkpointing`, which transformers 5.23 has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        if isinstance(model, PeftModel):
            model.add_adapter(adapter, config)
            model.set_adapter(adapter)
        else:
            model = get_peft_model(model, config, adapter)
    if begins:
        begin(model, adapter, lora, weight_of)
        setattr(model, _FIRST, _factors(model))
    if lora.use_dora:
        _require_length(model)
    return model


def _require_length(model: Any) -> None:
    """Refuses a row of length 0 (of a token that was never trained), which DoRA divides by."""
    for name, vector in model.named_parameters():
        layer, found, _ = name.partition(".lora_magnitude_vector.")
        if found and not bool((vector > 0).all()):
            layer = layer.removeprefix("base_model.model.")
            raise BadRecipeError(
                f"train.lora.use_dora: {layer} has rows of zeros, whose length DoRA divides by",
                f"add {layer} to train.lora.exclude_modules",
            )


def _targets(model: Any, lora: Lora) -> tuple[list[str], list[str]]:
    """``target_modules`` for PEFT, sorted, and the layers that they mean, every name proved."""
    modules = {name: module for name, module in modules_of_base(model) if name}
    layers = {n: m for n, m in modules.items() if isinstance(m, nn.Linear | nn.Embedding)}
    head = _plain_layer(model.get_output_embeddings())
    inner = [n for n, m in layers.items() if isinstance(m, nn.Linear) and m is not head]
    patterns = patterns_of(lora.target_modules, inner, set(layers) - set(inner))
    if found := unmatched(lora, patterns, layers, modules):
        choices = ", ".join(sorted({leaf(name) for name in found.choices}))
        raise BadRecipeError(
            f"train.lora.{found.key}: {found.given!r} matches no module of the base model",
            f"choose from: {choices}",
        )
    names = adapted(lora, patterns, layers, modules)
    if lora.exclude_modules or lora.layers_to_transform is not None:
        # PEFT asks for no layer's number where a name is given whole (peft 0.21).
        return names, names
    return patterns, names


def _by_layer(values: Mapping[str, T], layers: Sequence[str]) -> dict[str, T]:
    """``rank_pattern`` for PEFT, whose first match counts, in whatever order it is read back.

    Where two patterns may mean one layer, each layer stands by its full name.
    """
    if any(a != b and matches(a, b) for a in values for b in values):
        found = {name: most_specific(values, name, None) for name in layers}
        return {re.escape(name): value for name, value in found.items() if value is not None}
    return {re.escape(name): values[name] for name in sorted(values)}


def _factors(model: Any) -> dict[str, torch.Tensor]:
    """A copy of the adapter's matrices by name, fp32."""
    return {
        name: weight.detach().to(torch.float32, copy=True)
        for name, weight in model.named_parameters()
        if weight.requires_grad and re.search(r"\.lora_(embedding_)?[AB]\.", name)
    }


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
    from safetensors.torch import save

    state = _state(model, weights, adapter)
    settings: dict[str, Any] = model.peft_config[adapter].to_dict()
    settings.update(base_model_name_or_path=None, inference_mode=True, auto_mapping=None)
    if (first := getattr(model, _FIRST, None)) is not None:
        begun = _state(model, {**weights, **first}, adapter)
        state, settings = _of_the_base_itself(state, begun, settings)
    tensors = {name: state[name].contiguous() for name in sorted(state)}
    write_bytes(out / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_json(out / CONFIG_FILE, _plain(settings))


def _state(
    model: Any, weights: Mapping[str, torch.Tensor], adapter: str
) -> dict[str, torch.Tensor]:
    """Weights under the names that PEFT's file has for them."""
    from peft import get_peft_model_state_dict

    found: dict[str, torch.Tensor] = get_peft_model_state_dict(
        model, state_dict=dict(weights), adapter_name=adapter, save_embedding_layers=False
    )
    return found


def _of_the_base_itself(
    state: Mapping[str, torch.Tensor],
    first: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A plain adapter that adds [B, -B₀]·[A; A₀]; see ``adapter_init``.

    Twice the rank with the same scale: alpha/r, or alpha/√r in rsLoRA, stays what it was trained
    with on every layer.
    """
    found = dict(state)
    for name, weight in state.items():
        if ".lora_A." in name or name.endswith(".lora_embedding_A"):
            found[name] = torch.cat([weight, first[name]], dim=0)
        elif ".lora_B." in name or name.endswith(".lora_embedding_B"):
            found[name] = torch.cat([weight, -first[name]], dim=1)
    factor = sqrt(2.0) if settings["use_rslora"] else 2
    return found, {
        **settings,
        "r": 2 * settings["r"],
        "lora_alpha": factor * settings["lora_alpha"],
        "rank_pattern": {name: 2 * rank for name, rank in settings["rank_pattern"].items()},
        "alpha_pattern": {name: factor * a for name, a in settings["alpha_pattern"].items()},
    }


def read_adapter(
    model: Any, names: Collection[str], folder: Path, adapter: str = "default"
) -> dict[str, torch.Tensor]:
    """What ``write_adapter`` wrote, by parameter name of ``model``.

    Args:
        model: the PeftModel that ``attach`` returned.
        names: of the adapter's parameters.
        folder: has PEFT's two files.
        adapter: the adapter's name in the model.

    Raises:
        CorruptError: the file cannot be read, or holds other tensors (exit 74).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS_FILE
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{path}: unreadable ({error})", "train it again") from error
    own = {name: p for name, p in model.named_parameters() if name in names}
    # PEFT renames, and hands on the tensors themselves: so each tells what its name became.
    renamed = _state(model, own, adapter)
    stored = {id(tensor): name for name, tensor in renamed.items()}
    wanted = {stored[id(p)]: p.shape for p in own.values()}
    if wanted != {name: tensor.shape for name, tensor in found.items()}:
        raise CorruptError(
            f"{path}: other tensors than this adapter has", "begin without it, or train it alike"
        )
    return {name: found[stored[id(p)]] for name, p in own.items()}


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
