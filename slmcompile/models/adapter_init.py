"""Adapters that begin as a part of the base's weights: PiSSA, OLoRA and LoftQ.

Such a beginning (A₀, B₀) is taken out of the base, so that base and adapter together compute at the
start what the base computed, or in 4 bits come as near to it as LoftQ does. What is trained is then
W' + s·B·A over another base W'. It is saved as an adapter of the base W itself, of twice the rank:

    s·(B·A - B₀·A₀) = s·[B, -B₀]·[A; A₀]

Over a base in fp32, W' + s·B₀·A₀ = W, and the saved adapter over W is the trained model up to
rounding. Over a base in 4 bits it is the trained model plus E = W - W' - s·B₀·A₀, which quantising
has lost and no adapter can hold: E is of full rank. Every artifact is merged into the base at full
precision, so it gets E back, as after plain QLoRA it gets back W - Q(W). LoftQ looks for the
smallest E that a rank allows: what ships differs less from what was trained.

Knows weights and PEFT's layers; knows nothing of the loop. Embeddings begin as PEFT begins them, as
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from slmcompile.console.errors import BadRecipeError
from slmcompile.methods.lora import Lora

Rounded = Callable[[torch.Tensor], torch.Tensor]
"""A weight [out, in], fp32, as it comes back from how the base is held."""

LOFTQ_STEPS = 5
"""Alternations of quantising and decomposing, of which the best counts. Of a weight [576, 1536]
whose singular values fall as 1/√n, an adapter of rank 16 leaves 0.96 of what NF4 loses after one of
them, 0.90 after five and 0.88 after ten."""


@dataclass(frozen=True)
class Beginning:
    """An adapter, and what is left of the weight for the base.

    Attributes:
        a: [r, in].
        b: [out, r].
        rest: [out, in], to be held as the base is.
    """

    a: torch.Tensor
    b: torch.Tensor
    rest: torch.Tensor


def pissa(weight: torch.Tensor, rank: int, scale: float, _rounded: Rounded) -> Beginning:
    """The largest singular values and their vectors (arXiv:2404.02948, section 3)."""
    a, b = _truncated(weight, rank, scale)
    return Beginning(a, b, weight - scale * (b @ a))


def olora(weight: torch.Tensor, rank: int, scale: float, _rounded: Rounded) -> Beginning:
    """The first columns of Q and rows of R of W = Q·R (arXiv:2406.01775, algorithm 1)."""
    q, r = torch.linalg.qr(weight)
    a, b = r[:rank].contiguous(), q[:, :rank].contiguous()
    return Beginning(a, b, weight - scale * (b @ a))


def loftq(weight: torch.Tensor, rank: int, scale: float, rounded: Rounded) -> Beginning:
    """Base in 4 bits and adapter, each fitted to what the other leaves (arXiv:2310.08659, alg. 1).

    PEFT's own needs a GPU, and leaves the adapter's scale out (peft 0.21).
    """
    found: list[tuple[float, Beginning]] = []
    rest = weight
    for _ in range(LOFTQ_STEPS):
        lost = weight - rounded(rest)
        a, b = _truncated(lost, rank, scale)
        low = scale * (b @ a)
        found.append((float(torch.linalg.norm(lost - low)), Beginning(a, b, rest)))
        rest = weight - low
    return min(found, key=lambda each: each[0])[1]


def _truncated(weight: torch.Tensor, rank: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B with scale·B·A the nearest of that rank to the weight (Eckart and Young)."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root


_PROGRAMS = {"pissa": pissa, "olora": olora, "loftq": loftq}


@torch.no_grad()
def begin(
    model: Any, adapter: str, lora: Lora, weight_of: Callable[[str], torch.Tensor] | None
) -> None:
    """Sets the adapter of every linear layer, and what is left of the base, in place.

    Args:
        model: the PeftModel.
        adapter: its name there.
        lora: the section.
        weight_of: the weight of a layer at full precision, by its name in the base; None where the
            model itself holds it.

    Raises:
        BadRecipeError: an adapter on an output head that is the embedding again (exit 78).
    """
    from peft.tuners.lora import LoraLayer

    program = _PROGRAMS[str(lora.init_lora_weights)]
    embedding = model.get_input_embeddings()
    for name, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer) or adapter not in module.lora_A:
            continue
        base: Any = module.get_base_layer()
        if base.weight is embedding.weight:
            raise BadRecipeError(
                f"train.lora.init_lora_weights: {lora.init_lora_weights} takes its adapter out of"
                f" {name}, whose weights are the input embedding too",
                f"leave {name} out of train.lora.target_modules",
            )
        weight = base.weight if weight_of is None else weight_of(name)
        weight = weight.detach().to(base.weight.device, torch.float32)
        held = _Held(base)
        scale = module.scaling[adapter]
        found = program(weight, module.r[adapter], scale, held.rounded)
        held.replace(found.rest)
        module.lora_A[adapter].weight.copy_(found.a)
        module.lora_B[adapter].weight.copy_(found.b)
        if lora.use_dora:
            whole = held.rounded(found.rest) + scale * (found.b @ found.a)
            module.lora_magnitude_vector[adapter].weight.copy_(torch.linalg.norm(whole, dim=1))


class _Held:
    """How a layer of the base holds its weight: in a floating-point type, or in 4 bits."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._state: Any = getattr(layer.weight, "quant_state", None)

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight as it comes back, fp32."""
        if self._state is None:
            return weight.to(self._layer.weight.dtype).float()
        from bitsandbytes.functional import dequantize_4bit

        quantised = self._quantised(weight)
        found: torch.Tensor = dequantize_4bit(quantised.data, quantised.quant_state).float()
        return found

    def replace(self, weight: torch.Tensor) -> None:
        """Holds another weight in the same way; it stays frozen."""
        if self._state is None:
            self._layer.weight.data = weight.to(self._layer.weight.dtype)
        else:
            self._layer.weight = self._quantised(weight)

    def _quantised(self, weight: torch.Tensor) -> Any:
        from bitsandbytes.nn import Params4bit

        old = self._layer.weight
        # Quantised on its way to the device, out of the type that it comes back in.
        return Params4bit(
            weight.to(self._state.dtype),
            requires_grad=False,
            blocksize=old.blocksize,
            compress_statistics=old.compress_statistics,
            quant_type=old.quant_type,
            quant_storage=old.quant_storage,
            module=self._layer,
        ).to(old.device)
