"""A decoder layer of Llama's kin as two autograd functions: its attention, and its feed-forward.

h = x + o(attention(rotate(q, k), v)) of norm(x), and y = h + down(silu(gate) · up) of norm(h), each
with its low-rank parts and its residual. A function of the whole keeps for backward what cannot be
computed again cheaply (not the normed states, not the product of gate and up), writes everything
else into buffers that stay, and spares autograd's bookkeeping of some thirty operations a layer.

A layer gets this form only after it has agreed with its own forward on random rows, so a family
that computes something else under the same names (other norms, activations, multipliers) keeps its
own. So does what is not frozen, is hooked, dropped out or in 4 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from slmcompile.data.store import Row
from slmcompile.shapes.sizes import SHORT_ROW
from slmcompile.training import joint_low_rank
from slmcompile.training.batches import Batch, MicroBatch, collate
from slmcompile.training.fused_elementwise import rms_norm, rms_norm_backward
from slmcompile.training.grouped_lora import is_plain
from slmcompile.training.joint_low_rank import Joint, Share
from slmcompile.training.layout import Layout
from slmcompile.training.row_attention import (
    Heads,
    Places,
    Turns,
    attend,
    attend_backward,
    places_of,
)
from slmcompile.training.scratch import Kept, Scratch

_JOINED, _JOINED_BIAS = "slmcompile_joined", "slmcompile_joined_bias"
_PROBE = ([3, 1, 2, 1, 3], [2, 3, 1])


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: torch.Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class _Now:
    """What a batch has in common for all layers.

    Attributes:
        batch: it.
        cos: of its positions.
        turns: by these.
        places: of each learner's tokens.
    """

    batch: Batch
    cos: torch.Tensor
    turns: Turns
    places: tuple[Places, ...]


@dataclass(frozen=True, slots=True)
class _Linear:
    """A frozen product: weight [out, in], bias [out] or None, and its output's columns."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def of(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        torch.mm(x, self.weight.t(), out=out)
        return out if self.bias is None else out.add_(self.bias)


@dataclass(frozen=True, slots=True)
class _Attention:
    """Frozen parts of the first function, and the batch that it is computed for."""

    norm: _Norm
    joined: _Linear
    widths: list[int]
    output: _Linear
    heads: Heads
    scratch: Scratch
    kept: Kept
    now: _Now
    shares: tuple[Share, ...]
    output_shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class _FeedForward:
    """The same of the second."""

    norm: _Norm
    gate: _Linear
    up: _Linear
    down: _Linear
    scratch: Scratch
    kept: Kept
    shares: tuple[Share, ...]
    down_shares: tuple[Share, ...]


def _count(shares: Sequence[Share]) -> int:
    return 2 * sum(len(share.scaling) for share in shares)


def _add_through(grad: torch.Tensor, through: Sequence[Joint]) -> torch.Tensor:
    """Adds to an input's gradient what comes through the low-rank parts."""
    for each in through:
        grad[each.tokens].addmm_(each.low, each.down)
    return grad


class AttentionBlock(torch.autograd.Function):
    """x + o(attention(rotate(q, k), v)) of norm(x), for x [1, tokens, width]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, of: _Attention, *pairs: torch.Tensor) -> torch.Tensor:
        """Takes the matrices A and B of ``of.shares``, then of ``of.output_shares``."""
        flat, heads, scratch = x[0], of.heads, of.scratch
        tokens = len(flat)
        normed = scratch.of("normed", tuple(flat.shape), flat)
        inverse = rms_norm(flat, of.norm.weight, of.norm.eps, normed, scratch)
        joined = scratch.of("joined", (tokens, heads.all * heads.width), flat)
        of.joined.of(normed, joined)
        own, others = pairs[: _count(of.shares)], pairs[_count(of.shares) :]
        lows = joint_low_rank.add(normed, torch.split(joined, of.widths, dim=1), of.shares, own)
        of.now.turns.turn(joined)
        mixed = of.kept.take((tokens, heads.queries * heads.width), flat)
        kept = [
            attend(joined[each.flat], each, heads, mixed[each.flat], scratch, of.kept)
            for each in of.now.places
        ]
        y = of.output.of(mixed, flat.new_empty(tokens, flat.shape[1]))
        lows += joint_low_rank.add(mixed, [y], of.output_shares, others)
        y += flat
        ctx.save_for_backward(
            flat, inverse, mixed, *(t for pair in kept for t in pair), *lows, *pairs
        )
        ctx.of = of
        return y.unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x and of the matrices."""
        of: _Attention = ctx.of
        # Before anything else: with checkpointing this computes the layer again, in the buffers.
        flat, inverse, mixed, *rest = ctx.saved_tensors
        heads, scratch, places = of.heads, of.scratch, of.now.places
        kept = [rest[2 * number : 2 * number + 2] for number in range(len(places))]
        rest = rest[2 * len(places) :]
        count = len(of.shares), len(of.shares) + len(of.output_shares)
        lows, other_lows, pairs = rest[: count[0]], rest[count[0] : count[1]], rest[count[1] :]
        own, others = pairs[: _count(of.shares)], pairs[_count(of.shares) :]
        grad = grad.contiguous()[0]

        others_found, through = joint_low_rank.gradients(
            [grad], of.output_shares, others, other_lows, mixed
        )
        of_mixed = torch.mm(
            grad, of.output.weight, out=scratch.of("mixed", tuple(mixed.shape), grad)
        )
        _add_through(of_mixed, through)
        joined = scratch.of("joined", (len(flat), heads.all * heads.width), grad)
        for (by_row, weights), each in zip(kept, places, strict=True):
            attend_backward(
                of_mixed[each.flat], by_row, weights, each, heads, joined[each.flat], scratch
            )
        of.now.turns.turn(joined, -1.0)
        found, through = joint_low_rank.gradients(
            torch.split(joined, of.widths, dim=1),
            of.shares,
            own,
            lows,
            flat,
            inverse,
            of.norm.weight,
        )
        of_x = None
        if ctx.needs_input_grad[0]:
            normed = scratch.of("normed", tuple(flat.shape), grad)
            _add_through(torch.mm(joined, of.joined.weight, out=normed), through)
            of_x = rms_norm_backward(normed, flat, of.norm.weight, inverse, grad).unsqueeze(0)
        of.kept.give(mixed, *(by_row for by_row, _ in kept))
        return of_x, None, *found, *others_found


class FeedForwardBlock(torch.autograd.Function):
    """h + down(silu(gate) · up) of norm(h) (arXiv:2002.05202), for h [1, tokens, width]."""

    @staticmethod
    def forward(ctx: Any, h: torch.Tensor, of: _FeedForward, *pairs: torch.Tensor) -> torch.Tensor:
        """Takes the matrices A and B of ``of.shares``, then of ``of.down_shares``."""
        flat, scratch = h[0], of.scratch
        shape = len(flat), len(of.gate.weight)
        normed = scratch.of("normed", tuple(flat.shape), flat)
        inverse = rms_norm(flat, of.norm.weight, of.norm.eps, normed, scratch)
        gate, up = (each.of(normed, of.kept.take(shape, flat)) for each in (of.gate, of.up))
        own, others = pairs[: _count(of.shares)], pairs[_count(of.shares) :]
        lows = joint_low_rank.add(normed, [gate, up], of.shares, own)
        gated = scratch.of("gated", shape, flat)
        torch.ops.aten.silu.out(gate, out=gated).mul_(up)
        y = of.down.of(gated, flat.new_empty(flat.shape))
        lows += joint_low_rank.add(gated, [y], of.down_shares, others)
        y += flat
        ctx.save_for_backward(flat, inverse, gate, up, *lows, *pairs)
        ctx.of = of
        return y.unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of h and of the matrices."""
        of: _FeedForward = ctx.of
        # Before anything else: with checkpointing this computes the layer again, in the buffers.
        flat, inverse, gate, up, *rest = ctx.saved_tensors
        scratch, shape = of.scratch, tuple(gate.shape)
        count = len(of.shares), len(of.shares) + len(of.down_shares)
        lows, other_lows, pairs = rest[: count[0]], rest[count[0] : count[1]], rest[count[1] :]
        own, others = pairs[: _count(of.shares)], pairs[_count(of.shares) :]
        grad = grad.contiguous()[0]

        activated = torch.ops.aten.silu.out(gate, out=scratch.of("activated", shape, grad))
        gated = torch.mul(activated, up, out=scratch.of("gated", shape, grad))
        others_found, through = joint_low_rank.gradients(
            [grad], of.down_shares, others, other_lows, gated
        )
        of_gate = torch.mm(grad, of.down.weight, out=gated)
        _add_through(of_gate, through)
        of_up = activated.mul_(of_gate)
        of_gate.mul_(up)
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)
        found, through = joint_low_rank.gradients(
            [of_gate, of_up], of.shares, own, lows, flat, inverse, of.norm.weight
        )
        of_h = None
        if ctx.needs_input_grad[0]:
            normed = scratch.of("normed", tuple(flat.shape), grad)
            torch.mm(of_gate, of.gate.weight, out=normed).addmm_(of_up, of.up.weight)
            _add_through(normed, through)
            of_h = rms_norm_backward(normed, flat, of.norm.weight, inverse, grad).unsqueeze(0)
        of.kept.give(gate, up)
        return of_h, None, *found, *others_found


_attention_block: Callable[..., torch.Tensor] = AttentionBlock.apply  # untyped in torch
_feed_forward_block: Callable[..., torch.Tensor] = FeedForwardBlock.apply


class _Projections:
    """Linears that read the same input, with the adapters that stand around them."""

    def __init__(self, modules: Sequence[Any], adapters: Mapping[str, str]) -> None:
        self._modules, self._adapters = modules, adapters

    def shares(self, batch: Batch) -> tuple[tuple[Share, ...], list[torch.Tensor]]:
        """Of the learners that adapt any of them, and their matrices."""
        shares, pairs = [], []
        for part in batch.parts:
            adapter = self._adapters[part.member]
            scaling = []
            for number, module in enumerate(self._modules):
                if adapter in getattr(module, "lora_A", ()):
                    scaling.append((number, module.scaling[adapter]))
                    pairs += [module.lora_A[adapter].weight, module.lora_B[adapter].weight]
            if scaling:
                shares.append(Share(part.tokens, tuple(scaling)))
        return tuple(shares), pairs


class _Common:
    """What the layers of a model share."""

    def __init__(self, layout: Layout, heads: Heads | None) -> None:
        self.layout, self.heads = layout, heads
        self.scratch, self.kept = Scratch(), Kept()
        self._now: _Now | None = None

    def now(self, batch: Batch, heads: Heads, cos: torch.Tensor, sin: torch.Tensor) -> _Now:
        """Worked out by the first layer that a batch comes to."""
        found = self._now
        if found is None or found.batch is not batch or found.cos is not cos:
            places = tuple(places_of(part, heads) for part in batch.parts)
            found = self._now = _Now(batch, cos, Turns(cos, sin, heads), places)
        return found


class _Layer:
    """A decoder layer's forward.

    Args:
        module: the layer.
        adapters: the name of the adapter, by member, of each learner that this form is for. A batch
            with a row of another keeps the layer's own form, so that what a learner computes alone
            does not depend on who else there is.
        common: to all layers.
    """

    def __init__(self, module: Any, adapters: Mapping[str, str], common: _Common) -> None:
        attention, mlp = module.self_attn, module.mlp
        self._module, self._common, self._members = module, common, adapters.keys()
        self._own: Callable[..., Any] = partial(type(module).forward, module)
        inner = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._qkv = _Projections(inner, adapters)
        self._o = _Projections((attention.o_proj,), adapters)
        self._gate_up = _Projections((mlp.gate_proj, mlp.up_proj), adapters)
        self._down = _Projections((mlp.down_proj,), adapters)
        self._norms = [
            _Norm(norm.weight, norm.variance_epsilon)
            for norm in (module.input_layernorm, module.post_attention_layernorm)
        ]
        self._widths: list[int] = [_plain(each).out_features for each in inner]
        self._attends = common.heads is not None
        if self._attends:
            _join(attention, [_plain(each) for each in inner])

    def leave_attention(self) -> None:
        """To the layer's own form, from now on."""
        self._attends = False

    def __call__(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """By the contract of transformers' decoder layers."""
        batch = self._common.layout.batch
        told = {
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "use_cache": use_cache,
            "position_embeddings": position_embeddings,
            **kwargs,
        }
        own_type = hidden_states.dtype == self._norms[0].weight.dtype
        theirs = batch is not None and all(p.member in self._members for p in batch.parts)
        if batch is None or not theirs or past_key_values is not None or not own_type:
            return self._own(hidden_states, **told)
        heads, longest = self._common.heads, max(part.longest for part in batch.parts)
        plain = attention_mask is None and 1 < longest <= SHORT_ROW
        if self._attends and heads and plain and position_embeddings is not None:
            now = self._common.now(batch, heads, *position_embeddings)
            h = self._attend(hidden_states, heads, now)
        else:
            module = self._module
            normed = module.input_layernorm(hidden_states)
            h = hidden_states + module.self_attn(hidden_states=normed, **told)[0]
        return self._feed_forward(h, batch)

    def _attend(self, x: torch.Tensor, heads: Heads, now: _Now) -> torch.Tensor:
        common, module = self._common, self._module.self_attn
        shares, pairs = self._qkv.shares(now.batch)
        others, other_pairs = self._o.shares(now.batch)
        of = _Attention(
            self._norms[0],
            _Linear(getattr(module, _JOINED), getattr(module, _JOINED_BIAS)),
            self._widths,
            _linear(module.o_proj),
            heads,
            common.scratch,
            common.kept,
            now,
            shares,
            others,
        )
        return _attention_block(x, of, *pairs, *other_pairs)

    def _feed_forward(self, h: torch.Tensor, batch: Batch) -> torch.Tensor:
        mlp = self._module.mlp
        shares, pairs = self._gate_up.shares(batch)
        others, other_pairs = self._down.shares(batch)
        gate, up, down = (_linear(each) for each in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        common = self._common
        of = _FeedForward(
            self._norms[1], gate, up, down, common.scratch, common.kept, shares, others
        )
        return _feed_forward_block(h, of, *pairs, *other_pairs)


def _plain(module: Any) -> Any:
    """The frozen linear that an adapter stands around, or that stands alone."""
    return getattr(module, "base_layer", module)


def _linear(module: Any) -> _Linear:
    plain = _plain(module)
    return _Linear(plain.weight, plain.bias)


def _join(attention: Any, linears: Sequence[nn.Linear]) -> None:
    """Their weights as one; each keeps its rows of it, so that they are in memory once."""
    weight = torch.cat([each.weight.detach() for each in linears])
    rows = [each.out_features for each in linears]
    for each, own in zip(linears, torch.split(weight, rows), strict=True):
        each.weight.data = own
    bias = None
    if any(each.bias is not None for each in linears):
        none = [weight.new_zeros(count) for count in rows]
        pairs = zip(linears, none, strict=True)
        bias = torch.cat(
            [zero if each.bias is None else each.bias.detach() for each, zero in pairs]
        )
    # Buffers, so that they follow the model to another device or dtype; of no state dict.
    attention.register_buffer(_JOINED, weight, persistent=False)
    attention.register_buffer(_JOINED_BIAS, bias, persistent=False)


def _linears(module: Any) -> list[Any]:
    """The seven of a layer; None where one has another name."""
    attention, mlp = getattr(module, "self_attn", None), getattr(module, "mlp", None)
    return [
        *(getattr(attention, f"{name}_proj", None) for name in "qkvo"),
        *(getattr(mlp, f"{name}_proj", None) for name in ("gate", "up", "down")),
    ]


def _fits(module: Any, dtype: torch.dtype) -> bool:
    """Whether a layer has the modules of the two formulas, and nothing else does anything there."""
    attention = getattr(module, "self_attn", None)
    norms = [getattr(module, f"{n}_layernorm", None) for n in ("input", "post_attention")]
    if not all(_is_frozen_linear(each, dtype) for each in _linears(module)):
        return False
    if not all(_is_frozen_norm(each, dtype) for each in norms):
        return False
    return not getattr(attention, "attention_dropout", 0.0) and not any(
        each._forward_hooks or each._forward_pre_hooks  # noqa: SLF001 - torch has no public way
        for each in module.modules()
        if each is not module
    )


def _is_frozen_linear(module: Any, dtype: torch.dtype) -> bool:
    plain = _plain(module)
    # Layers in 4 bits are subclasses.
    return bool(
        type(plain) is nn.Linear
        and plain.weight.dtype == dtype
        and not any(p.requires_grad for p in plain.parameters())
    )


def _adds_low_rank_alone(module: Any, adapter: str) -> bool:
    """Whether an adapter does what the formula does in every linear that it stands around."""
    return all(
        is_plain(each, adapter) and isinstance(each.lora_dropout[adapter], nn.Identity)
        for each in _linears(module)
        if adapter in getattr(each, "lora_A", ())
    )


def _is_frozen_norm(module: Any, dtype: torch.dtype) -> bool:
    weight = getattr(module, "weight", None)
    return bool(
        isinstance(weight, nn.Parameter)
        and hasattr(module, "variance_epsilon")
        and weight.ndim == 1
        and weight.dtype == dtype
        and not weight.requires_grad
    )


def _heads(attention: Any, config: Any) -> Heads | None:
    """Sizes of a layer's attention; None where they are not those of the formula."""
    width, keys = getattr(attention, "head_dim", None), getattr(config, "num_key_value_heads", None)
    if not isinstance(width, int) or width % 2 or not isinstance(keys, int):
        return None
    projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    q, k, v, o = (_plain(each) for each in projections)
    queries = q.out_features // width
    right = (
        q.out_features == queries * width == o.in_features
        and k.out_features == v.out_features == keys * width
        and queries % keys == 0
    )
    scaling = float(getattr(attention, "scaling", width**-0.5))
    return Heads(queries, keys, width, scaling) if right else None


def install(model: Any, layout: Layout, adapters: Mapping[str, str]) -> dict[str, int]:
    """Swaps the forward of every decoder layer that agrees; returns how many run each function.

    Args:
        model: a causal language model of transformers whose other fused forms are installed.
        layout: tells which rows are there.
        adapters: the name of each learner's adapter, by member.
    """
    found = {"attention_block": 0, "feed_forward_block": 0}
    decoder = model.get_decoder()
    layers, rotary = getattr(decoder, "layers", None), getattr(decoder, "rotary_emb", None)
    if not isinstance(layers, nn.ModuleList) or rotary is None or layout.eager:
        return found
    commons: dict[Heads | None, _Common] = {}
    for layer in layers:
        if not _fits(layer, model.dtype):
            continue
        own = {m: name for m, name in adapters.items() if _adds_low_rank_alone(layer, name)}
        if not own:
            continue
        heads = _heads(layer.self_attn, model.config)
        common = commons.setdefault(heads, _Common(layout, heads))
        probe = _probe(layer, rotary, next(iter(own)), layout)
        whole = _Layer(layer, own, common)
        attends = heads is not None and _turns_halves_alike(probe) and _agrees(whole, probe, layout)
        if not attends:
            whole.leave_attention()
            if not _agrees(whole, probe, layout):
                continue
        layer.forward = whole
        found["attention_block"] += attends
        found["feed_forward_block"] += 1
    return found


@dataclass(frozen=True, slots=True)
class _Probe:
    """Two random rows, and what a layer's own forward makes of them; None where it fails."""

    x: torch.Tensor
    batch: Batch
    told: dict[str, Any]
    expected: torch.Tensor | None


def _probe(layer: Any, rotary: Any, member: str, layout: Layout) -> _Probe:
    weight = layer.input_layernorm.weight
    rows = [Row(0, "", "", "", [], ids, ids) for ids in _PROBE]
    batch = collate([MicroBatch(member, rows)], weight.device)
    shape = (1, batch.input_ids.shape[1], len(weight))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight)
    told: dict[str, Any] = {"position_ids": batch.position_ids}
    found = None
    with torch.no_grad(), layout.of(batch):
        try:
            told["position_embeddings"] = rotary(x, position_ids=batch.position_ids)
            found = type(layer).forward(layer, x, **told)
        except (RuntimeError, TypeError, AttributeError):
            pass
    return _Probe(x, batch, told, found if isinstance(found, torch.Tensor) else None)


def _turns_halves_alike(probe: _Probe) -> bool:
    """Whether cosine and sine are those of rotated halves."""
    turns = probe.told.get("position_embeddings", ())
    return all(torch.equal(*each.chunk(2, dim=-1)) for each in turns)


def _agrees(whole: _Layer, probe: _Probe, layout: Layout) -> bool:
    """Whether both forms add the same to the residual stream."""
    if probe.expected is None:
        return False
    with torch.no_grad(), layout.of(probe.batch):
        try:
            got = whole(probe.x, **probe.told)
        except (RuntimeError, TypeError, AttributeError):
            return False
    if probe.expected.dtype != got.dtype:
        return False
    bound = 1e-4 if probe.x.dtype == torch.float32 else 3e-2
    added = (probe.expected - probe.x).float()
    return bool((got.float() - probe.expected.float()).norm() <= bound * added.norm())
