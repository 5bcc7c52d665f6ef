"""A LoRA linear of one or several learners as one autograd function (arXiv:2106.09685).

y = x Wᵀ + b, and for the rows of each learner + s (drop(x) Aᵀ) Bᵀ with its own A, B and s: one
product over the frozen weights for all of them, two small ones a learner over its own tokens. Over
weights in 4 bits the first product is their library's.

PEFT's own forward casts, scales and adds in passes of their own over the whole activation, and
autograd keeps the intermediate results; on a CPU those passes cost as much as the products. Here
the low-rank part is accumulated by the product that computes it (``addmm``), and backward is four
small products beside the one for the input. The parameters stay PEFT's: only ``forward`` changes.

Knows nothing of recipes or training; where it does not apply, PEFT's forward stays in place, over
the rows of one learner after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from slmcompile.training.dropout import RowDropout
from slmcompile.training.layout import Layout


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one learner does in a layer.

    Attributes:
        tokens: its tokens.
        scaling: of its low-rank part.
        keep: bool [tokens, in], what dropout keeps; None for all.
        scale: what is kept is multiplied by it.
    """

    tokens: slice
    scaling: float
    keep: torch.Tensor | None
    scale: float

    def read(self, flat: torch.Tensor) -> torch.Tensor:
        """Its rows of ``flat`` behind dropout."""
        return self.dropped(flat[self.tokens])

    def dropped(self, x: torch.Tensor) -> torch.Tensor:
        """Dropout, and its own gradient, on the learner's rows."""
        return x if self.keep is None else (x * self.keep).mul_(self.scale)


class GroupedLoraLinear(torch.autograd.Function):
    """Forward and backward of a frozen linear with a low-rank part for each learner.

    Shapes: x [..., in], weight [out, in] or None for the low-rank parts alone, bias [out] or None,
    then A [r, in] and B [out, r] of each of ``slices``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        slices: tuple[_Slice, ...],
        *pairs: torch.Tensor,
    ) -> torch.Tensor:
        """Returns [..., out] in the dtype of ``x``."""
        flat = x.reshape(-1, x.shape[-1])
        if weight is None:
            y = flat.new_zeros(flat.shape[0], pairs[1].shape[0])
        else:
            y = functional.linear(flat, weight, bias)
        low = []
        for each, a, b in zip(slices, pairs[::2], pairs[1::2], strict=True):
            low.append(each.read(flat) @ a.t())
            y[each.tokens].addmm_(low[-1], b.t(), alpha=each.scaling)
        ctx.save_for_backward(flat, weight, *pairs, *low)
        ctx.slices = slices
        ctx.shape = x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x and of every A and B; weight and bias are frozen."""
        flat, weight, *rest = ctx.saved_tensors
        count = len(ctx.slices)
        pairs, low = rest[: 2 * count], rest[2 * count :]
        grad = grad.reshape(-1, grad.shape[-1])
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = flat.new_zeros(flat.shape) if weight is None else grad @ weight
        found: list[torch.Tensor] = []
        for number, each in enumerate(ctx.slices):
            a, b = pairs[2 * number : 2 * number + 2]
            own = grad[each.tokens]
            # The scaling goes onto the two [tokens, r] factors: the only small tensors here.
            grad_low = (own @ b).mul_(each.scaling)
            grad_b = own.t() @ (low[number] * each.scaling)
            found += [grad_low.t() @ each.read(flat), grad_b]
            if grad_x is not None:
                if each.keep is None:
                    grad_x[each.tokens].addmm_(grad_low, a)
                else:
                    grad_x[each.tokens].add_(each.dropped(grad_low @ a))
        return None if grad_x is None else grad_x.view(ctx.shape), None, None, None, *found


_grouped_lora: Callable[..., torch.Tensor] = GroupedLoraLinear.apply  # untyped in torch


def _applies(module: Any, adapters: Mapping[str, str]) -> bool:
    """Whether PEFT's forward of this module is exactly the formula above."""
    base = module.base_layer
    # Layers in 4 bits are subclasses.
    return bool(
        isinstance(base, nn.Linear)
        and not any(p.requires_grad for p in base.parameters())
        and not getattr(module, "fan_in_fan_out", False)
        and all(is_plain(module, name) for name in adapters.values() if name in module.lora_A)
    )


def is_plain(module: Any, adapter: str) -> bool:
    """Whether this adapter of a PEFT layer adds the formula's low-rank part and nothing more."""
    return bool(
        isinstance(module.lora_dropout[adapter], nn.Identity | RowDropout)
        and adapter not in module.lora_variant
        and not module.lora_bias[adapter]
    )


def _forward(
    module: Any, adapters: Mapping[str, str], layout: Layout, x: torch.Tensor
) -> torch.Tensor:
    """Of a module in the formula above."""
    if layout.batch is None:
        own: torch.Tensor = type(module).forward(module, x)
        return own
    slices, pairs = [], []
    for part in layout.batch.parts:
        adapter = adapters[part.member]
        if adapter not in module.lora_A:
            continue
        drop = module.lora_dropout[adapter]
        known = isinstance(drop, RowDropout)
        keep = drop.keep(x.shape[-1], x.device) if known else None
        scale = drop.scale if known else 1.0
        slices.append(_Slice(part.tokens, module.scaling[adapter], keep, scale))
        pairs += [module.lora_A[adapter].weight, module.lora_B[adapter].weight]
    base = module.base_layer
    if type(base) is nn.Linear and base.weight.dtype == x.dtype:
        return _grouped_lora(x, base.weight, base.bias, tuple(slices), *pairs)
    y: torch.Tensor = base(x)
    return y + _grouped_lora(x, None, None, tuple(slices), *pairs) if slices else y


def _one_by_one(
    module: Any, adapters: Mapping[str, str], layout: Layout, x: torch.Tensor
) -> torch.Tensor:
    """Of any other module: PEFT's own forward, over the rows of one learner after the other."""
    forward: Callable[..., torch.Tensor] = type(module).forward
    if layout.batch is None:
        return forward(module, x)
    found = []
    for part in layout.batch.parts:
        adapter = adapters[part.member]
        # It takes the adapters that are active; here that is nobody's or one learner's.
        module._active_adapter = [adapter]  # noqa: SLF001
        found.append(forward(module, x[:, part.tokens]))
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


@contextmanager
def only(model: nn.Module, adapter: str) -> Iterator[None]:
    """One learner's adapter is the active one for a block, where no batch says whose rows come.

    PEFT's own ``set_adapter`` would also say which weights require a gradient.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    before: list[tuple[Any, Any]] = []
    for module in model.modules():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            before.append((module, module._active_adapter))  # noqa: SLF001
            # A layer passes over a name that it does not have; what wraps a whole module does not.
            has = isinstance(module, BaseTunerLayer) or adapter in module._adapters  # noqa: SLF001
            module._active_adapter = [adapter] if has else []  # noqa: SLF001
    try:
        yield
    finally:
        for module, active in before:
            module._active_adapter = active  # noqa: SLF001


def install(model: nn.Module, adapters: Mapping[str, str], layout: Layout, seed: int) -> int:
    """Swaps the forward of every PEFT layer; returns how many run the fused form.

    Args:
        model: has PEFT's adapters injected.
        adapters: the name of each learner's adapter, by member.
        layout: tells which rows are there.
        seed: of dropout.
    """
    from peft.tuners.lora import LoraLayer

    fused = 0
    for path, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        for member, adapter in adapters.items():
            _drop_by_row(module, layout, member, adapter, path, seed)
        whole = _applies(module, adapters)
        forward = _forward if whole else _one_by_one
        module.forward = partial(forward, module, adapters, layout)
        fused += whole
    return fused


def _drop_by_row(
    module: Any, layout: Layout, member: str, adapter: str, path: str, seed: int
) -> None:
    drops = module.lora_dropout
    if adapter in drops and isinstance(drops[adapter], nn.Dropout):
        drops[adapter] = RowDropout(layout, member, path, drops[adapter].p, seed)
