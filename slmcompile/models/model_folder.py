"""All trained weights as a model folder in the hub's layout, byte for byte the same every time.

Knows transformers' file format; knows nothing of the loop. The adapters' counterpart is
``slmcompile.models.adapter``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from slmcompile.console.errors import CorruptError
from slmcompile.console.quiet import quiet
from slmcompile.files.artifact import saying_what_is_missing, write_json

CONFIG_FILE = "config.json"
_OF_THE_BASE = ("tokenizer", "special", "chat_template", "generation_config")


def write_model(model: Any, weights: Mapping[str, torch.Tensor], base: Path, out: Path) -> None:
    """Writes a folder that ``from_pretrained`` opens: weights as trained, in fp32, not rounded.

    transformers names the tensors (tied ones once, merged experts taken apart) and writes the
    safetensors; configuration and tokenizer are those of the base model, whose own sampling
    settings transformers would rewrite.

    Args:
        model: the causal language model that was trained.
        weights: all its parameters by name, fp32.
        base: folder of the base model.
        out: an existing empty folder.
    """
    state = {name: weights[name].contiguous() for name in sorted(weights)}
    with saying_what_is_missing(out):
        with quiet():
            model.save_pretrained(out, state_dict=_with_buffers_and_ties(model, state))
        for path in sorted(base.iterdir()):
            if path.is_file() and path.name.startswith(_OF_THE_BASE):
                shutil.copyfile(path, out / path.name)
        config = json.loads((base / CONFIG_FILE).read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        write_json(out / CONFIG_FILE, {**config, "dtype": "float32"})
        for path in out.iterdir():
            _sync(path)


def read_model(model: Any, names: Collection[str], folder: Path) -> dict[str, torch.Tensor]:
    """What ``write_model`` wrote, by parameter name of ``model``, fp32.

    Args:
        model: of the same configuration.
        names: of its parameters.
        folder: the written one.

    Raises:
        CorruptError: it cannot be opened, or has other tensors (exit 74).
    """
    try:
        with quiet():
            written = type(model).from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CorruptError(f"{folder}: not a trained model: {reason}", "train it again") from error
    found = {name: p.detach() for name, p in written.named_parameters() if name in names}
    shapes = {name: p.shape for name, p in model.named_parameters() if name in names}
    if shapes != {name: tensor.shape for name, tensor in found.items()}:
        raise CorruptError(f"{folder}: other tensors than this model has", "train it alike")
    return found


def _with_buffers_and_ties(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The model's state dict with these weights in it, under their tied names too."""
    shared = {
        id(parameter): weights[name]
        for name, parameter in model.named_parameters()
        if name in weights
    }
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    return {name: shared.get(id(tensor), tensor.detach()) for name, tensor in state.items()}


def _sync(path: Path) -> None:
    """Waits until the disk has a file."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
