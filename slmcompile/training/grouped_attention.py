"""Causal attention of short rows by plain batched products, query heads grouped over key heads.

On a CPU torch's flash kernels cost more than the arithmetic when rows are short (torch 2.13:
dozens of tokens, hundreds of heads in a batch). Here the query heads that share a key head become
more rows of one product, so keys and values are never repeated. Anything but plain causal
attention of a short row goes to transformers' own ``sdpa`` function.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from slmcompile.shapes.sizes import SHORT_ROW

NAME = "slmcompile_grouped"
_ELSEWHERE = ("softcap", "s_aux", "position_bias", "cache", "is_causal")


@lru_cache(maxsize=64)
def causal_bias(length: int, group: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[group · length, length]: 0 where a query may look, −inf where it may not."""
    # It is kept, and whoever asked first may have been generating: autograd takes no such tensors.
    with torch.inference_mode(mode=False):
        bias = torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu_(1)
        return bias.repeat(group, 1)


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention by the contract of transformers' ``AttentionInterface``.

    Args:
        module: the attention module, for ``sdpa``.
        query: [batch, heads, length, width].
        key: [batch, key heads, length, width].
        value: [batch, key heads, length, value width].
        attention_mask: None for plain causal attention.
        dropout: probability; above 0 goes to ``sdpa``.
        scaling: of the scores; None takes 1/√width.
        **kwargs: whatever else the family passes on.

    Returns:
        [batch, length, heads, value width], and no weights.
    """
    batch, heads, length, width = query.shape
    key_heads = key.shape[1]
    special = any(kwargs.get(name) is not None for name in _ELSEWHERE)
    if attention_mask is not None or dropout or special or not 1 < length <= SHORT_ROW:
        return _sdpa(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if key.shape[2] != length:
        raise ValueError("grouped attention is for training: no key-value cache")
    group = heads // key_heads
    factor = width**-0.5 if scaling is None else scaling
    query = (query * factor).reshape(batch * key_heads, group * length, width)
    key = key.reshape(batch * key_heads, length, width)
    value = value.reshape(batch * key_heads, length, -1)
    bias = causal_bias(length, group, query.dtype, query.device)
    weights = torch.softmax(torch.baddbmm(bias, query, key.transpose(1, 2)), dim=-1)
    mixed = torch.bmm(weights, value)
    return mixed.view(batch, heads, length, -1).transpose(1, 2).contiguous(), None


def _sdpa(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    result: tuple[torch.Tensor, None] = sdpa_attention_forward(*args, **kwargs)
    return result


def install(model: Any) -> int:
    """Registers the function and gives it to a model that would use ``sdpa``; returns 1 or 0.

    A family that transformers does not give ``sdpa`` (its attention differs) keeps its own.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    # transformers 5 has no public names for these two.
    chosen = model.config._attn_implementation  # noqa: SLF001
    if chosen != "sdpa" or not model._supports_attention_backend:  # noqa: SLF001
        return 0
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return 1
