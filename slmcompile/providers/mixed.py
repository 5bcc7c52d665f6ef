"""Which of a model's matrices are 4 bits wide and which 8: what is known of it before a probe.

A node of the graph has one width, so that what the builder packs into one (q, k and v) is in one
group, and so is what two nodes share (a head that is the embedding again). Over the depth layers
lie together, so that there are no more groups than can be measured.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from slmcompile.shapes.architecture import HEADS, Architecture
from slmcompile.shapes.blocks import WIDE, block_of, stored_bytes
from slmcompile.shapes.target_modules import leaf

NARROW = 4
"""Bits of the weights that bear it."""

DEFAULT_BITS = 6.0

MOST_GROUPS = 40
"""Of each the model is asked once."""

HEAD = "head"

_LAYER = re.compile(r"(?:.+\.)?layers\.(?P<layer>\d+)\.(?:self_attn|mlp)\.(?P<leaf>\w+)")
_PACKED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}


@dataclass(frozen=True)
class Group:
    """Matrices of one kind in layers one behind the other, all of one width.

    Attributes:
        kind: last part of the modules' names, ``qkv_proj`` of q, k and v; ``head``.
        first: of its layers; −1 of the head, which lies in none.
        last: of its layers.
        modules: names of the linear layers.
        weights: number of them.
        narrow: bytes in 4 bits.
        wide: bytes in 8 bits.
    """

    kind: str
    first: int
    last: int
    modules: tuple[str, ...]
    weights: int
    narrow: int
    wide: int

    @property
    def name(self) -> str:
        """As in a probe's record: ``down_proj 4-8``."""
        if self.first < 0:
            return self.kind
        place = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.kind} {place}"


def groups_of(shapes: Mapping[str, tuple[int, int]], block: int) -> tuple[Group, ...]:
    """Of a decoder's linear layers and its head, in the order of the graph.

    Args:
        shapes: [out, in] by name; of a head that is the embedding again too. Names of anything else
            than a decoder's sublayers are left out.
        block: of the weights in 4 bits.
    """
    placed = {name: found for name in shapes if (found := _LAYER.fullmatch(name))}
    kinds = dict.fromkeys(_kind(found["leaf"]) for found in placed.values())
    heads = [name for name in shapes if leaf(name) in HEADS]
    depth = 1 + max((int(found["layer"]) for found in placed.values()), default=-1)
    pools = min(depth, (MOST_GROUPS - len(heads)) // max(1, len(kinds)))
    members: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name, found in placed.items():
        members[int(found["layer"]) * pools // depth, _kind(found["leaf"])].append(name)
    inside = [
        _group(kind, members[pool, kind], shapes, block)
        for pool in range(pools)
        for kind in kinds
        if (pool, kind) in members
    ]
    return (*inside, *(_group(HEAD, [name], shapes, block) for name in heads))


def _kind(module: str) -> str:
    return _PACKED.get(module, module)


def _group(
    kind: str, modules: Sequence[str], shapes: Mapping[str, tuple[int, int]], block: int
) -> Group:
    found = [_LAYER.fullmatch(name) for name in modules]
    layers = [int(each["layer"]) for each in found if each]
    return Group(
        kind=kind,
        first=min(layers, default=-1),
        last=max(layers, default=-1),
        modules=tuple(modules),
        weights=sum(prod(shapes[name]) for name in modules),
        narrow=_bytes([shapes[name] for name in modules], NARROW, block),
        wide=_bytes([shapes[name] for name in modules], WIDE, block),
    )


def _bytes(shapes: Sequence[tuple[int, int]], bits: int, narrow: int) -> int:
    return sum(
        stored_bytes(rows, width, bits, block_of(width, bits, narrow)) for rows, width in shapes
    )


def of_architecture(model: Architecture, block: int) -> tuple[Group, ...]:
    """The groups of a model that is known by its shapes alone."""
    heads = {name: shape for name, shape in model.layers.items() if leaf(name) in HEADS}
    return groups_of({**model.linears, **heads}, block)


def bits_between(groups: Sequence[Group]) -> tuple[float, float]:
    """Bits a weight, scales and zero points counted: all of them narrow, and all wide."""
    weights = max(1, sum(group.weights for group in groups))
    narrow, wide = (sum(getattr(group, w) for group in groups) for w in ("narrow", "wide"))
    return 8 * narrow / weights, 8 * wide / weights
