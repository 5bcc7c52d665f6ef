"""Bottleneck adapters in a torch model: attaching, writing byte for byte the same, reading again.

An adapter is h + W_up f(W_down h + b_down) + b_up over its sublayer's output h (Houlsby et al.,
arXiv:1902.00751). It begins as the identity, exactly: W_up and both biases are zero. So the first
loss is the base model's, and W_up's first gradient is not zero, as W_down is random (uniform, by
its width, as LoRA's A); the paper draws both near zero, which starts a little beside the base.

Knows modules and a file format of its own; knows nothing of the loop or of graphs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.nn import functional

from slmcompile.console.errors import BadRecipeError, CorruptError, StageFailedError
from slmcompile.files.artifact import write_json
from slmcompile.methods.bottleneck import Bottleneck, Place, fault_of, narrowed, places
from slmcompile.models.adapter import write_bytes
from slmcompile.shapes.sublayers import Sublayer

CONFIG_FILE = "bottleneck.json"
WEIGHTS_FILE = "bottleneck.safetensors"

NAMES: Mapping[Sublayer, str] = {"self_attn": "mh_adapter", "mlp": "output_adapter"}
"""What a sublayer's adapter is called in it, as in AdapterHub's ``adapters``."""

_NON_LINEARITIES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "tanh": torch.tanh,
}


class BottleneckAdapter(nn.Module):
    """One adapter.

    Args:
        settings: its shape.
        width: of its input and output.
    """

    def __init__(self, settings: Bottleneck, width: int) -> None:
        super().__init__()
        self.settings = settings
        narrow = narrowed(settings, width)
        self.down = nn.Linear(width, narrow)
        self.up = nn.Linear(narrow, width)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Takes and returns [..., width]."""
        inside = _NON_LINEARITIES[self.settings.non_linearity](self.down(hidden))
        result: torch.Tensor = hidden + self.up(inside)
        return result

    def behind(self, _sublayer: nn.Module, _inputs: Any, output: Any) -> Any:
        """A forward hook: what the sublayer returns, its hidden states adapted.

        A hook and not a forward of the sublayer's own, which training may replace by a fused form.
        """
        if isinstance(output, tuple):
            return (self(output[0]), *output[1:])
        return self(output)


@dataclass(frozen=True)
class Placed:
    """An adapter in a model.

    Attributes:
        place: where.
        adapter: the module.
    """

    place: Place
    adapter: BottleneckAdapter


def attach(model: Any, settings: Bottleneck) -> None:
    """Puts fresh adapters behind the model's sublayers and freezes the rest.

    Draws the initial weights from torch's global generator.

    Raises:
        BadRecipeError: the model has no place for them (exit 78).
    """
    modules = [name for name, _ in model.named_modules()]
    embedding = model.get_input_embeddings().weight
    fault = fault_of(settings, modules, embedding.shape[1])
    if fault is not None:
        raise BadRecipeError(f"train.{fault.key}: {fault.what}", fault.hint)
    model.requires_grad_(requires_grad=False)
    for place in places(settings, modules):
        sublayer = model.get_submodule(place.module)
        adapter = BottleneckAdapter(settings, embedding.shape[1]).to(embedding.device)
        sublayer.add_module(NAMES[place.sublayer], adapter)
        sublayer.register_forward_hook(adapter.behind)


def adapters_of(model: Any) -> tuple[Placed, ...]:
    """The adapters in a model, the lowest first; none where it has none."""
    modules = dict(model.named_modules())
    found = [name for name, module in modules.items() if isinstance(module, BottleneckAdapter)]
    if not found:
        return ()
    settings = modules[found[0]].settings
    # Names of the base's modules alone: an adapter's own are none of them.
    return tuple(
        Placed(place, modules[f"{place.module}.{NAMES[place.sublayer]}"])
        for place in places(settings, list(modules))
    )


def own_weights(model: Any) -> dict[str, torch.Tensor]:
    """The base model's own tensors by name, without those of adapters in it."""
    adapters = {
        f"{placed.place.module}.{NAMES[placed.place.sublayer]}." for placed in adapters_of(model)
    }
    state: dict[str, torch.Tensor] = model.state_dict()
    return {n: weight for n, weight in state.items() if not n.startswith(tuple(adapters))}


def write(model: Any, weights: Mapping[str, torch.Tensor], out: Path) -> None:
    """Writes two files, from which ``apply`` makes the same adapters; equal weights, equal bytes.

    Args:
        model: has the adapters.
        weights: their weights by parameter name, fp32.
        out: an existing folder.
    """
    from safetensors.torch import save

    tensors = {name: weights[name].contiguous() for name in sorted(weights)}
    write_bytes(out / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    settings = adapters_of(model)[0].adapter.settings
    told = TypeAdapter(Bottleneck).dump_python(settings, mode="json")
    write_json(out / CONFIG_FILE, {"format_version": "1.0", **told})


def apply(model: Any, trained: Path) -> Any:
    """The model, frozen, with the adapters of a folder behind its sublayers.

    Raises:
        CorruptError: the folder is incomplete, or its adapters are not of this model (exit 74).
        StageFailedError: a weight is not finite (exit 1).
    """
    settings, weights = _loaded(trained)
    attach(model, settings)
    expected = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _require_shapes(trained, expected, weights)
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise StageFailedError(
                f"{trained}: {name} holds NaN or infinite values",
                "train with a lower learning rate",
            )
        expected[name].data.copy_(weight)
    model.requires_grad_(requires_grad=False)
    return model


def read(model: Any, names: Collection[str], trained: Path) -> dict[str, torch.Tensor]:
    """The weights that ``write`` wrote, by parameter name.

    Args:
        model: has adapters of the same shape.
        names: of their weights.
        trained: the folder.

    Raises:
        CorruptError: the folder is incomplete, or its adapters are not those (exit 74).
    """
    _, weights = _loaded(trained)
    expected = {name: p for name, p in model.named_parameters() if name in names}
    _require_shapes(trained, expected, weights)
    return weights


def _loaded(trained: Path) -> tuple[Bottleneck, dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        told = json.loads((trained / CONFIG_FILE).read_text(encoding="utf-8"))
        told.pop("format_version")
        settings = TypeAdapter(Bottleneck).validate_json(json.dumps(told))
        weights = load_file(trained / WEIGHTS_FILE)
    except (OSError, KeyError, ValueError, ValidationError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CorruptError(
            f"{trained}: not a bottleneck adapter: {reason}", "train again"
        ) from error
    return settings, weights


def _require_shapes(
    trained: Path, expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> None:
    if {n: p.shape for n, p in expected.items()} != {n: w.shape for n, w in weights.items()}:
        raise CorruptError(
            f"{trained}: its adapters are not those of this base model", "train again"
        )
