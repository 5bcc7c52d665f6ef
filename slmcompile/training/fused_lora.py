"""A LoRA linear as one autograd function: y = x Wᵀ + b + s (x Aᵀ) Bᵀ (arXiv:2106.09685).

PEFT's own forward casts, scales and adds in passes of their own over the whole activation, and
autograd keeps the intermediate results; on a CPU those passes cost as much as the products. Here
the low-rank part is accumulated by the product that computes it (``addmm``), and backward is four
small products beside the one for the input. The parameters stay PEFT's: only ``forward`` changes.

Knows nothing of recipes or training; where it does not apply, PEFT's forward stays in place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class FusedLoraLinear(torch.autograd.Function):
    """Forward and backward of a frozen linear with a low-rank part.

    Shapes: x [..., in], weight [out, in], bias [out] or None, a [r, in], b [out, r].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Returns [..., out] in the dtype of ``x``."""
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ a.t()
        y = functional.linear(flat, weight, bias)
        y.addmm_(low, b.t(), alpha=scaling)
        ctx.save_for_backward(flat, weight, a, b, low)
        ctx.scaling = scaling
        ctx.shape = x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, a and b; weight and bias are frozen."""
        flat, weight, a, b, low = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        # The scaling goes onto the two [tokens, r] factors: the only small tensors here.
        grad_low = (grad @ b).mul_(ctx.scaling)
        grad_b = grad.t() @ (low * ctx.scaling)
        grad_a = grad_low.t() @ flat
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low, a).view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


_fused_lora: Callable[..., torch.Tensor] = FusedLoraLinear.apply  # untyped in torch


def _applies(module: Any, adapter: str) -> bool:
    """Whether PEFT's forward of this module is exactly the formula above."""
    from peft.tuners import lora

    if type(module) is not lora.Linear or adapter not in module.lora_A:
        return False
    base = module.base_layer
    return bool(
        type(base) is nn.Linear
        and not base.weight.requires_grad
        and isinstance(module.lora_dropout[adapter], nn.Identity)
        and adapter not in module.lora_variant
        and not module.lora_bias[adapter]
        and not module.fan_in_fan_out
        and base.weight.dtype == module.lora_A[adapter].weight.dtype
    )


def _forward(module: Any, adapter: str, x: torch.Tensor) -> torch.Tensor:
    base = module.base_layer
    return _fused_lora(
        x,
        base.weight,
        base.bias,
        module.lora_A[adapter].weight,
        module.lora_B[adapter].weight,
        module.scaling[adapter],
    )


def install(model: nn.Module, adapter: str = "default") -> int:
    """Swaps the forward of every PEFT LoRA linear that allows it; returns how many."""
    fused = [module for module in model.modules() if _applies(module, adapter)]
    for module in fused:
        module.forward = partial(_forward, module, adapter)
    return len(fused)
