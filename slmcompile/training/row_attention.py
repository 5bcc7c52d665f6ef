"""Rotation and causal attention of short rows over one flat matrix of queries, keys and values.

The heads of a flat batch are laid out by row in one gather, [rows · key heads, group · longest,
width] for the queries and [rows · key heads, longest, width] for keys and values, attend by plain
batched products, and come back flat in another; where they go is worked out once a batch and is
the same in every layer. As in ``grouped_attention``, query heads that share a key head are more
rows of one product; as in ``flat_attention``, padding stands where causal attention never looks.

Knows batches and tensors; knows nothing of modules.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slmcompile.training.batches import Part
from slmcompile.training.fused_elementwise import wide_dtype
from slmcompile.training.grouped_attention import causal_bias
from slmcompile.training.scratch import Kept, Scratch


@dataclass(frozen=True, slots=True)
class Heads:
    """How many there are, and how wide each is.

    Attributes:
        queries: of them.
        keys: and as many values.
        width: of each head.
        scaling: of the scores.
    """

    queries: int
    keys: int
    width: int
    scaling: float

    @property
    def all(self) -> int:
        """Queries, keys and values."""
        return self.queries + 2 * self.keys

    @property
    def group(self) -> int:
        """Queries to a key."""
        return self.queries // self.keys


@dataclass(frozen=True, slots=True)
class Places:
    """Where the heads of a learner's tokens stand by row, and where they stand flat.

    Attributes:
        rows: of the learner.
        longest: of them.
        flat: slice of the tokens.
        gather: int64 [queries, then keys, then values by row], which flat head stands there.
        back: int64 [tokens · all heads], where by row each flat head stands.
        queries: the part of ``gather`` for an output that has query heads alone.
        queries_back: the part of ``back`` for it.
        padding: int64, which query places by row are padding.
    """

    rows: int
    longest: int
    flat: slice
    gather: torch.Tensor
    back: torch.Tensor
    queries: torch.Tensor
    queries_back: torch.Tensor
    padding: torch.Tensor


def places_of(part: Part, heads: Heads) -> Places:
    """Of one learner's tokens; indices count from its first token."""
    device, rows, longest = part.padded.device, len(part.lengths), part.longest
    token = part.padded.view(rows, 1, longest)
    key = torch.arange(heads.keys, device=device).view(1, -1, 1)
    query = torch.arange(heads.queries, device=device).view(1, -1, 1)
    gather = [
        token * heads.all + query,
        token * heads.all + heads.queries + key,
        token * heads.all + heads.queries + heads.keys + key,
    ]
    row, place = (part.real // longest).unsqueeze(1), (part.real % longest).unsqueeze(1)
    queries_back = (row * heads.queries + query.view(1, -1)) * longest + place
    keys_back = (row * heads.keys + key.view(1, -1)) * longest + place
    first = rows * heads.queries * longest
    back = [queries_back, first + keys_back, first + rows * heads.keys * longest + keys_back]
    length = torch.tensor(part.lengths, device=device).view(-1, 1, 1)
    behind = torch.arange(longest, device=device) >= length
    return Places(
        rows,
        longest,
        part.tokens,
        torch.cat([each.flatten() for each in gather]),
        torch.cat(back, dim=1).flatten(),
        (token * heads.queries + query).flatten(),
        queries_back.flatten(),
        behind.expand(rows, heads.queries, longest).flatten().nonzero().flatten(),
    )


class Turns:
    """Cosine and sine of a batch's positions, [tokens, heads · width] for queries and keys.

    Args:
        cos: [1, tokens, width], both halves of the width alike.
        sin: the same of the sine.
        heads: of the layers.
    """

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor, heads: Heads) -> None:
        signed = sin[0].clone()
        signed[:, : heads.width // 2].neg_()
        self._width, self._turned = heads.width, heads.queries + heads.keys
        self._cos, self._sin = cos[0].repeat(1, self._turned), signed.repeat(1, self._turned)

    def turn(self, flat: torch.Tensor, sense: float = 1.0) -> None:
        """Rotates queries and keys (arXiv:2104.09864) of [tokens, all heads · width] in place.

        Args:
            flat: queries, keys and values.
            sense: -1 for the rotation back, which the gradient takes.
        """
        turned = flat[:, : self._turned * self._width]
        halves = turned.view(len(flat), self._turned, self._width).roll(self._width // 2, -1)
        turned.mul_(self._cos).addcmul_(halves.flatten(1), self._sin, value=sense)


def attend(
    flat: torch.Tensor,
    places: Places,
    heads: Heads,
    mixed: torch.Tensor,
    scratch: Scratch,
    kept: Kept,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention within each row.

    Args:
        flat: [tokens of the learner, all heads · width], rotated.
        places: of these tokens.
        heads: of the layer.
        mixed: [tokens of the learner, queries · width], written.
        scratch: for what does not stay.
        kept: for what does.

    Returns:
        Queries, keys and values by row, and the probabilities: what ``attend_backward`` takes.
    """
    by_row = kept.take((len(places.gather), heads.width), flat)
    torch.index_select(flat.view(-1, heads.width), 0, places.gather, out=by_row)
    query, key, value = _by_row(by_row, places, heads)
    bias = causal_bias(places.longest, heads.group, flat.dtype, flat.device)
    shape = (query.shape[0], query.shape[1], places.longest)
    scores = scratch.of("scores", shape, flat)
    torch.baddbmm(bias, query, key.transpose(1, 2), alpha=heads.scaling, out=scores)
    # torch 2.13's kernel is twice as fast in fp32, and copies are cheap.
    dtype = wide_dtype(flat.dtype)
    wide = scratch.of("scores wide", shape, flat, dtype).copy_(scores)
    found = scratch.of("probabilities wide", shape, flat, dtype)
    torch.softmax(wide, -1, out=found)
    weights = found.to(flat.dtype, copy=True)
    result = torch.bmm(weights, value, out=scratch.of("mixed by row", tuple(query.shape), flat))
    torch.index_select(
        result.view(-1, heads.width), 0, places.queries_back, out=mixed.view(-1, heads.width)
    )
    return by_row, weights


def attend_backward(
    grad: torch.Tensor,
    by_row: torch.Tensor,
    weights: torch.Tensor,
    places: Places,
    heads: Heads,
    flat: torch.Tensor,
    scratch: Scratch,
) -> None:
    """Writes the gradient of ``attend``'s ``flat``.

    Args:
        grad: of ``mixed``.
        by_row: from ``attend``.
        weights: from ``attend``.
        places: of the tokens.
        heads: of the layer.
        flat: [tokens of the learner, all heads · width], written.
        scratch: for what does not stay.
    """
    query, key, value = _by_row(by_row, places, heads)
    padded = scratch.of("mixed by row", tuple(query.shape), grad)
    rows = padded.view(-1, heads.width)
    torch.index_select(grad.view(-1, heads.width), 0, places.queries, out=rows)
    if len(places.padding):
        rows.index_fill_(0, places.padding, 0.0)
    slopes = scratch.of("by row", tuple(by_row.shape), grad)
    to_query, to_key, to_value = _by_row(slopes, places, heads)
    torch.bmm(weights.transpose(1, 2), padded, out=to_value)
    shape = tuple(weights.shape)
    of_weights = torch.bmm(padded, value.transpose(1, 2), out=scratch.of("scores", shape, grad))
    of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)  # noqa: SLF001
    of_scores.mul_(heads.scaling)
    torch.bmm(of_scores, key, out=to_query)
    torch.bmm(of_scores.transpose(1, 2), query, out=to_key)
    torch.index_select(slopes, 0, places.back, out=flat.view(-1, heads.width))


def _by_row(
    whole: torch.Tensor, places: Places, heads: Heads
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of [all of them, width]."""
    count = places.rows * heads.keys
    sizes = [count * heads.group * places.longest, *[count * places.longest] * 2]
    query, key, value = torch.split(whole, sizes)
    shape = (count, places.longest, heads.width)
    return query.view(count, -1, heads.width), key.view(shape), value.view(shape)
