"""Bottleneck adapters: small networks behind the sublayers of a frozen base.

Where one sits: right behind the output projection of its sublayer, "after the projection back to
the input size, but before adding the skip connection back" (Houlsby et al. 2019, section 2.1), and
so before whatever the layer does to that output on its way into the add: the norm of Gemma 2 and 3
and of OLMo 2, the multiplier of Granite. What a sublayer adds to the residual stream then stays as
bounded as it was in pre-training, and the place is one module's output in every family.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from slmcompile.methods.keys import MethodName, Train
from slmcompile.methods.method import Fault, MemoryTerms, Method
from slmcompile.registry.section import Section
from slmcompile.shapes.architecture import Architecture, Trainable
from slmcompile.shapes.sublayers import Sublayer, sublayers

Style = Literal["houlsby", "pfeiffer"]

BEHIND: Mapping[Style, tuple[Sublayer, ...]] = {
    "houlsby": ("self_attn", "mlp"),
    "pfeiffer": ("mlp",),
}
"""The sublayers that a style puts an adapter behind."""


class Bottleneck(Section):
    """Small networks between the layers; keys as in AdapterHub's ``adapters`` (``BnConfig``)."""

    style: Style = Field(
        "pfeiffer",
        description="Where they sit: pfeiffer, one behind each MLP (arXiv:2005.00247); houlsby,"
        " one behind each attention too (arXiv:1902.00751).",
    )
    reduction_factor: int = Field(
        16, ge=1, le=65536, description="Width of the model by that of the bottleneck."
    )
    non_linearity: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = Field(
        "relu", description="What stands in the bottleneck, as transformers names it."
    )
    leave_out: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=1024)] = Field(
        (), description="Layers that get none, counted from 0: [0, 1]."
    )


class BottleneckTrain(Train):
    """Small networks behind the sublayers are trained, the base model stays as it is."""

    method: MethodName = "bottleneck"
    bottleneck: Bottleneck = Field(Bottleneck(), description="The adapters' shape.")


@dataclass(frozen=True)
class Place:
    """A sublayer that gets an adapter.

    Attributes:
        layer: of the decoder, from 0.
        sublayer: which of its two.
        module: its name in the model.
    """

    layer: int
    sublayer: Sublayer
    module: str


def places(bottleneck: Bottleneck, modules: Collection[str]) -> tuple[Place, ...]:
    """Where adapters go in a model of these modules; see ``fault_of`` for where they cannot."""
    return tuple(
        Place(layer, kind, found[kind])
        for layer, found in enumerate(sublayers(modules))
        if layer not in bottleneck.leave_out
        for kind in BEHIND[bottleneck.style]
        if kind in found
    )


def fault_of(bottleneck: Bottleneck, modules: Collection[str], width: int | None) -> Fault | None:
    """What keeps the adapters from a model of these modules, None where nothing does.

    Args:
        bottleneck: the adapters.
        modules: names of the model's modules.
        width: of its residual stream; None where it has no embedding that tells.
    """
    layers = sublayers(modules)
    lacking = [
        f"layer {number} has no {kind}"
        for number, found in enumerate(layers)
        if number not in bottleneck.leave_out
        for kind in BEHIND[bottleneck.style]
        if kind not in found
    ]
    if width is None or not layers or lacking:
        why = lacking[0] if lacking else "its modules are no one stack of decoder layers"
        return Fault(
            "bottleneck.style",
            f"there is no place for {bottleneck.style} adapters in the base model: {why}",
            "train another way: train=lora",
            by_name=True,
        )
    last = len(layers) - 1
    beyond = [number for number in bottleneck.leave_out if number > last]
    if beyond:
        return Fault(
            "bottleneck.leave_out",
            f"layer {beyond[0]} is to be left out of {len(layers)}",
            f"layers are counted from 0 to {last}",
        )
    if not places(bottleneck, modules):
        return Fault(
            "bottleneck.leave_out",
            f"all {len(layers)} layers are left out",
            "keep at least one",
        )
    if bottleneck.reduction_factor > width:
        return Fault(
            "bottleneck.reduction_factor",
            f"a reduction factor of {bottleneck.reduction_factor} leaves nothing of the base"
            f" model's width of {width}",
            f"set train.bottleneck.reduction_factor to {width} or less",
        )
    return None


def trainable(train: BottleneckTrain, model: Architecture) -> Trainable:
    """Counts the weights; see ``size``."""
    return _weights(train.bottleneck, model)


@lru_cache(maxsize=64)
def _weights(bottleneck: Bottleneck, model: Architecture) -> Trainable:
    if _fault(bottleneck, model) or model.width is None:
        return Trainable((), 0, 0, 0)
    count = len(places(bottleneck, model.modules))
    return Trainable((), count * size(bottleneck, model.width), 0, 0)


def size(bottleneck: Bottleneck, width: int) -> int:
    """Weights of one adapter, m the width of its bottleneck: 2·m·width + m + width."""
    narrow = narrowed(bottleneck, width)
    return 2 * narrow * width + narrow + width


def narrowed(bottleneck: Bottleneck, width: int) -> int:
    """Width of the bottleneck; what the reduction factor leaves over is dropped."""
    return width // bottleneck.reduction_factor


def _fault(bottleneck: Bottleneck, model: Architecture) -> Fault | None:
    return fault_of(bottleneck, model.modules, model.width)


def kept(train: BottleneckTrain, hidden: int) -> float:
    """Each adapter's input, its bottleneck behind the non-linearity, and before it where needed.

    The gradients of ReLU and tanh follow from their results, which are kept already.
    """
    bottleneck = train.bottleneck
    from_result = bottleneck.non_linearity in {"relu", "tanh"}
    narrow = narrowed(bottleneck, hidden) * (1 if from_result else 2)
    return float(len(BEHIND[bottleneck.style]) * (hidden + narrow))


def reached(train: BottleneckTrain, layers: int) -> tuple[int, int]:
    """Layers from the lowest with an adapter up, and those with adapters among them."""
    left = [layer for layer in range(layers) if layer not in train.bottleneck.leave_out]
    return (layers - left[0], len(left)) if left else (0, 0)


def details(train: Mapping[str, Any]) -> list[str]:
    """``Houlsby`` and ``reduction factor 16``."""
    given = train.get("bottleneck") or {}
    style, factor = given.get("style"), given.get("reduction_factor")
    found = [style.capitalize()] if isinstance(style, str) else []
    return [*found, *([f"reduction factor {factor}"] if isinstance(factor, int) else [])]


USUAL_RATE = (3e-5, 3e-3)
"""What Houlsby et al. search (arXiv:1902.00751, section 3.2); 1e-4 in AdapterHub's examples."""

ENTRIES = (
    Method(
        name="bottleneck",
        title="bottleneck adapters",
        section=BottleneckTrain,
        program="slmcompile.training.methods.bottleneck:BOTTLENECK",
        writes="adapter",
        packages=("torch", "transformers"),
        usual_rate=USUAL_RATE,
        trainable=trainable,
        memory=MemoryTerms(kept=kept, reached=reached),
        details=details,
        forms=frozenset({"nodes"}),
        only_merged=lambda _: "",
        fault=lambda train, model: _fault(train.bottleneck, model),
        made_one="its adapters put into the graph in fp32, ",
    ),
)
