"""Causal attention within each row of a flat batch; rows are padded here and nowhere else.

The rows of a learner are gathered into [rows, heads, longest, width], attend there, and are laid
out flat again; padding stands behind a row's last token, where causal attention never looks, and
what it computes is thrown away. So no mask over the whole batch is ever made, and a row gets what
it would get alone.

Knows batches and the contract of transformers' ``AttentionInterface``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from slmcompile.data.store import Row
from slmcompile.training.batches import MicroBatch, Part, collate
from slmcompile.training.grouped_attention import grouped_attention
from slmcompile.training.layout import Layout

_NUMBER = count()


class _Pad(torch.autograd.Function):
    """[1, heads, tokens, width] → [rows, heads, longest, width]; backward gathers, adds nothing."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, padded: torch.Tensor, real: torch.Tensor, rows: int
    ) -> torch.Tensor:
        ctx.save_for_backward(real)
        heads, width = x.shape[1], x.shape[3]
        wide = x[0].index_select(1, padded).view(heads, rows, -1, width)
        return wide.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (real,) = ctx.saved_tensors
        heads, width = grad.shape[1], grad.shape[3]
        flat = grad.transpose(0, 1).reshape(heads, -1, width)
        return flat.index_select(1, real).unsqueeze(0), None, None, None


class _Unpad(torch.autograd.Function):
    """[rows, longest, heads, width] → [1, tokens, heads, width]; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(real)
        ctx.shape = x.shape
        return x.flatten(0, 1).index_select(0, real).unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (real,) = ctx.saved_tensors
        wide = grad.new_zeros(ctx.shape)
        wide.flatten(0, 1).index_copy_(0, real, grad[0])
        return wide, None


_pad: Callable[..., torch.Tensor] = _Pad.apply  # untyped in torch
_unpad: Callable[..., torch.Tensor] = _Unpad.apply


def _attend(
    layout: Layout,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """As the function that attends; ``attention_mask`` is what the function of masks returned."""
    inner = _eager(module) if layout.eager else grouped_attention
    if layout.batch is None:
        return inner(module, query, key, value, attention_mask, **kwargs)

    def of(part: Part) -> torch.Tensor:
        tokens, rows, longest = part.tokens, len(part.lengths), part.longest
        q, k, v = (
            _pad(each[:, :, tokens], part.padded, part.real, rows) for each in (query, key, value)
        )
        mask = None if attention_mask is None else attention_mask[..., :longest, :longest]
        mixed, _ = inner(module, q, k, v, mask, **kwargs)
        return _unpad(mixed, part.real)

    return torch.cat([of(part) for part in layout.batch.parts], dim=1), None


def _eager(module: nn.Module) -> Callable[..., tuple[torch.Tensor, Any]]:
    """The family's own, which knows its caps; every modelling file has it by this name."""
    found: Callable[..., tuple[torch.Tensor, Any]] = sys.modules[
        type(module).__module__
    ].eager_attention_forward
    return found


def _mask(layout: Layout, *args: Any, **kwargs: Any) -> torch.Tensor | None:
    """The mask of a padded row: None where causal attention needs no more, else its window.

    transformers asks once for each kind of layer and hands it to every layer of that kind.

    Returns:
        [1, 1, longest, longest]: bool, True where a query may look; for a family's own attention
        its form of it, to be added. None for all before it.
    """
    from transformers.masking_utils import eager_mask, sdpa_mask

    if layout.batch is None:
        return (eager_mask if layout.eager else sdpa_mask)(*args, **kwargs)
    window = kwargs.get("local_size")
    longest = max(part.longest for part in layout.batch.parts)
    if not layout.eager and (window is None or longest <= window):
        return None
    place = torch.arange(longest, device=layout.batch.input_ids.device)
    behind = place[:, None] - place[None, :]
    seen = (behind >= 0) & (behind < (window or longest))
    if not layout.eager:
        return seen[None, None]
    dtype = kwargs["dtype"]
    hidden = torch.zeros(longest, longest, dtype=dtype, device=seen.device)
    return hidden.masked_fill_(~seen, torch.finfo(dtype).min)[None, None]


def rows_are_apart(model: Any, layout: Layout, member: str, device: torch.device) -> bool:
    """Whether a row behind another one in a flat batch gets what it gets alone, tried on two.

    Convolutions and recurrent layers run over the whole of a sequence, whatever attention does.

    Args:
        model: has its fused forms.
        layout: of the model's modules.
        member: anybody who learns over it.
        device: where it is.
    """
    # Ids from 1: a padding id 0 may have a zero embedding, which would prove nothing.
    first, second = ([Row(0, "", "", "", [], ids, ids)] for ids in ([3, 1, 2], [2, 3, 1]))

    def hidden(rows: list[Row]) -> torch.Tensor:
        batch = collate([MicroBatch(member, rows)], device)
        with torch.no_grad(), layout.of(batch):
            found = model.get_decoder()(
                input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
            )
        last: torch.Tensor = found.last_hidden_state[0, -3:]
        return last.float()

    mode = model.training
    model.eval()
    behind, alone = hidden([*first, *second]), hidden(second)
    model.train(mode)
    bound = 1e-4 if model.dtype == torch.float32 else 3e-2
    return bool((behind - alone).abs().max() <= bound * alone.abs().max())


def install(model: Any, layout: Layout) -> int:
    """Gives the function to a model; returns 1, or 0 where its family does not let it be chosen.

    A family that transformers does not give ``sdpa`` (its attention differs) attends by its own
    function.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    # transformers 5 has no public names for these two.
    chosen = model.config._attn_implementation  # noqa: SLF001
    if chosen not in {"sdpa", "eager"} or not model._supports_attention_backend:  # noqa: SLF001
        return 0
    layout.eager = chosen == "eager"
    name = f"slmcompile_rows_{next(_NUMBER)}"
    AttentionInterface.register(name, partial(_attend, layout))
    AttentionMaskInterface.register(name, partial(_mask, layout))
    model.set_attn_implementation(name)
    return 1
