"""RMSNorm and SwiGLU as one autograd function each, for frozen norm weights.

In a small model on a CPU element-wise passes over the activations cost more than the products.
These two do the least of them, keep only what backward needs, and round where the modelling code
of transformers rounds (RMSNorm in fp32, its result in the activation's dtype).

A module gets the fused form only after it has agreed with the module's own forward on random
input, so a family that computes something else under the same names keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from slmcompile.training.scratch import Scratch

_PROBE_TOKENS = 8


class FusedRMSNorm(torch.autograd.Function):
    """y = w · x / √(mean(x²) + ε) over the last axis (Zhang & Sennrich, arXiv:1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Returns the shape and dtype of ``x``."""
        wide = wide_dtype(x.dtype)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        inverse = torch.rsqrt(norm.square_().div_(x.shape[-1]).add_(eps))
        scaled = x.to(wide, copy=True).mul_(inverse)
        ctx.save_for_backward(x, weight, inverse)
        return scaled.to(x.dtype) * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of x; the weight is frozen."""
        x, weight, inverse = ctx.saved_tensors
        grad_x = (grad * weight).to(inverse.dtype)
        wide = x.to(inverse.dtype)
        along = (grad_x * wide).sum(-1, keepdim=True)
        along.mul_(inverse).mul_(inverse).div_(x.shape[-1])
        grad_x.addcmul_(wide, along, value=-1).mul_(inverse)
        return grad_x.to(x.dtype), None, None


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, scratch: Scratch
) -> torch.Tensor:
    """Writes the norm of x [tokens, width] to ``out``; returns 1/√(mean(x²) + ε), [tokens, 1]."""
    wide = scratch.of("norm wide", tuple(x.shape), x, wide_dtype(x.dtype)).copy_(x)
    inverse: torch.Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    inverse.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    out.copy_(wide.mul_(inverse)).mul_(weight)
    return inverse


def rms_norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    inverse: torch.Tensor,
    residual: torch.Tensor,
) -> torch.Tensor:
    """The gradient of x, which is also what is added to the norm's result later on.

    The two factors of a row are rounded to the dtype of x, so that nothing is widened.

    Args:
        grad: of the norm's result, [tokens, width]; written over.
        x: what was normed.
        weight: [width], frozen.
        inverse: what ``rms_norm`` returned.
        residual: gradient of the sum.
    """
    grad.mul_(weight)
    along = torch.linalg.vecdot(grad, x).unsqueeze(1).to(inverse.dtype)
    along.mul_(inverse).mul_(inverse).mul_(inverse).div_(x.shape[-1])
    found = torch.addcmul(residual, grad, inverse.to(x.dtype))
    found.addcmul_(x, along.to(x.dtype), value=-1)
    return found


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """fp32, and fp64 of a model in that."""
    return torch.promote_types(dtype, torch.float32)


class FusedSwiGLU(torch.autograd.Function):
    """silu(gate) · up (Shazeer, arXiv:2002.05202); silu is computed again in backward."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Returns the shape and dtype of ``gate``."""
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of gate and up."""
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return grad_gate, functional.silu(gate).mul_(grad)


_fused_rms_norm: Callable[..., torch.Tensor] = FusedRMSNorm.apply  # untyped in torch
_fused_swiglu: Callable[..., torch.Tensor] = FusedSwiGLU.apply


def _rms_norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return _fused_rms_norm(hidden_states, module.weight, module.variance_epsilon)


def _swiglu(module: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = module.down_proj(_fused_swiglu(module.gate_proj(x), module.up_proj(x)))
    return result


def _agrees(module: nn.Module, fused: Callable[..., torch.Tensor], probe: torch.Tensor) -> bool:
    """Whether the fused form gives what the module's own forward gives, on one random input.

    Hooks behind it (a bottleneck adapter) run behind either form, and so are no part of it.
    """
    with torch.no_grad():
        try:
            expected, got = module.forward(probe), fused(module, probe)
        except (RuntimeError, TypeError):
            return False
    tolerance = 1e-5 if probe.dtype == torch.float32 else 2e-2
    return expected.dtype == got.dtype and torch.allclose(expected, got, tolerance, tolerance)


def _probe(width: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, _PROBE_TOKENS, width, generator=generator).to(dtype)


def install_rms_norm(model: nn.Module) -> int:
    """Swaps the forward of every frozen RMSNorm that agrees; returns how many."""
    count = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not hasattr(module, "variance_epsilon") or not isinstance(weight, nn.Parameter):
            continue
        probe = _probe(weight.shape[-1], weight.dtype)
        if not weight.requires_grad and weight.ndim == 1 and _agrees(module, _rms_norm, probe):
            module.forward = partial(_rms_norm, module)
            count += 1
    return count


def install_swiglu(model: nn.Module) -> int:
    """Swaps the forward of every gated SiLU block that agrees; returns how many."""
    count = 0
    names = ("gate_proj", "up_proj", "down_proj", "act_fn")
    # Not that of the projection's weights: those of a 4-bit layer are packed into bytes.
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    for module in model.modules():
        if not all(isinstance(getattr(module, name, None), nn.Module) for name in names):
            continue
        gate: Any = module.gate_proj
        width = getattr(gate, "in_features", None)
        if not isinstance(width, int):
            continue
        if _agrees(module, _swiglu, _probe(width, dtype)):
            module.forward = partial(_swiglu, module)
            count += 1
    return count
