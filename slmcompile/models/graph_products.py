"""Finds, in a graph that onnxruntime-genai's builder has made, the products of a model's modules.

By the names that the builder gives to nodes, and then by shape: a product that is as wide as the
module, of an input as wide as its. Either side may pack what the other has apart: q, k and v are
one product in most graphs, one module in Phi-3, and its gate and up are two products.

Knows graphs of onnxruntime-genai 0.18, of whatever precision; knows no weights and no adapters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.shapes.architecture import HEADS
from slmcompile.shapes.target_modules import leaf

_PACKED: Mapping[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""What a packed projection is made of: its rows in this order, in torch as in graphs."""

_CALLED = {"dense": "o_proj"}
"""What the builder calls a module that it renames (Phi)."""

_KINDS = frozenset({"MatMul", "MatMulNBits"})
_LOOKUPS = frozenset({"Gather", "GatherBlockQuantized"})
_VIEWS = frozenset({"Reshape", "Transpose"})
_NODE = re.compile(
    r"/(?:model/(?P<place>layers\.\d+/(?:attn|mlp))/(?P<leaf>\w+)|lm_head)"
    r"/MatMul(?:NBits)?(?:_Q\d+)?"
)
_MODULE = re.compile(r"(?:.+\.)?(?P<layer>layers\.\d+)\.(?P<sublayer>self_attn|mlp)\.(?P<leaf>\w+)")
_FOLDERS = {"self_attn": "attn", "mlp": "mlp"}
"""What the builder calls the sublayers."""

_HEAD = ("", "lm_head")


@dataclass(frozen=True, eq=False)
class Product:
    """A node that computes a module, or rows of it.

    Attributes:
        node: ``MatMul`` or ``MatMulNBits``; its first input is the module's.
        rows: which of the node's output features are the module's.
        features: which of the module's output features those are; all but where torch packs what
            the graph has apart.
    """

    node: Any
    rows: slice
    features: slice


@dataclass(frozen=True, eq=False)
class Embedding:
    """The look-up of a graph's input ids.

    Attributes:
        node: ``Gather`` or ``GatherBlockQuantized``.
        table: the initialiser that it reads, through whatever reshapes or turns it.
        turned: whether that is turned first, so holds a column for each token.
        shared: whether it reads the very weights that the output head multiplies with.
    """

    node: Any
    table: Any
    turned: bool
    shared: bool


def products(
    model: Any, modules: Mapping[str, tuple[int, int]]
) -> Mapping[str, tuple[Product, ...]]:
    """The products that compute each module, by the module's name, in the order of its features.

    Args:
        model: ``onnx_ir.Model``.
        modules: [out, in] by name of linear layers of the decoder and of the head; with one of q,
            k and v, or of gate and up, all of them.

    Raises:
        StageFailedError: no product is known to compute one of them (exit 1).
        CorruptError: the graph lacks the weights of one (exit 74).
    """
    nodes = _nodes(model.graph)
    places = {name: _place_of(name) for name in modules}
    beside: dict[str, dict[str, int]] = defaultdict(dict)
    for name, (place, leaf_) in places.items():
        beside[place][leaf_] = modules[name][0]
    found = {}
    for name, (place, leaf_) in places.items():
        parts = _parts(nodes.get(place, {}), leaf_, beside[place])
        _require_shape(name, parts, modules[name])
        found[name] = parts
    return found


def nodes_of(module: str) -> tuple[str, ...]:
    """What the builder may call a module's product, before it is quantised.

    One name of itself, and those of what it may be packed into there or be packed of.

    Args:
        module: its name in torch.

    Raises:
        StageFailedError: no place is known for it (exit 1).
    """
    place, own = _place_of(module)
    if (place, own) == _HEAD:
        return (f"/{own}/MatMul",)
    packed = [whole for whole, parts in _PACKED.items() if own in parts]
    names = (own, *_PACKED.get(own, ()), *packed)
    return tuple(f"/model/{place}/{name}/MatMul" for name in names)


def embedding(model: Any) -> Embedding:
    """What looks up the input ids.

    Raises:
        StageFailedError: nothing does, or not in a table of weights (exit 1).
        CorruptError: the graph lacks the table (exit 74).
    """
    ids = next((value for value in model.graph.inputs if value.name == "input_ids"), None)
    readers = [] if ids is None else [n for n in ids.consumers() if n.op_type in _LOOKUPS]
    if len(readers) != 1:
        raise _unexpected(f"{len(readers)} nodes look up input_ids, and not one")
    table, turned = readers[0].inputs[0], False
    while table.producer() is not None and table.producer().op_type in _VIEWS:
        turned ^= table.producer().op_type == "Transpose"
        table = table.producer().inputs[0]
    require_weights(table)
    head = _nodes(model.graph).get(_HEAD[0], {}).get(_HEAD[1])
    own = [table, *readers[0].inputs[2:]]
    return Embedding(readers[0], table, turned, head is not None and own == list(head.inputs[1:]))


def widths(node: Any) -> tuple[int, int]:
    """[out, in] of a product.

    Raises:
        StageFailedError: it is one of two computed values (exit 1).
        CorruptError: its weights are not there (exit 74).
    """
    weight = node.inputs[1]
    require_weights(weight)
    if node.op_type == "MatMulNBits":
        return node.attributes["N"].as_int(), node.attributes["K"].as_int()
    shape = weight.const_value.shape
    if len(shape) != 2:
        raise _unexpected(f"{node.name!r} multiplies with weights of {len(shape)} axes")
    return int(shape[1]), int(shape[0])


def require_weights(value: Any) -> None:
    """Refuses a value that is no initialiser.

    Raises:
        StageFailedError: it is computed, or given to the graph (exit 1).
        CorruptError: nothing gives it (exit 74).
    """
    if value.const_value is not None:
        return
    if value.producer() is None and not value.is_graph_input():
        raise CorruptError(
            f"the ONNX graph has no weights {value.name!r}",
            "remove the folder and run the recipe again; it will be built again",
        )
    raise _unexpected(f"{value.name!r} stands where weights are expected")


def _nodes(graph: Any) -> dict[str, dict[str, Any]]:
    """Products by place and by the last part of what the builder calls them."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for node in graph:
        named = _NODE.fullmatch(node.name or "") if node.op_type in _KINDS else None
        if named:
            place, own = (named["place"], named["leaf"]) if named["place"] else _HEAD
            if own in found[place]:
                raise _unexpected(f"two products are called {node.name!r}")
            found[place][own] = node
    return found


def _place_of(name: str) -> tuple[str, str]:
    """Where the builder puts a module, and what it calls it."""
    if leaf(name) in HEADS:
        return _HEAD
    named = _MODULE.fullmatch(name)
    if named is None:
        raise _unexpected(f"no place is known for {name}")
    called = _CALLED.get(named["leaf"], named["leaf"])
    return f"{named['layer']}/{_FOLDERS[named['sublayer']]}", called


def _parts(nodes: Mapping[str, Any], wanted: str, beside: Mapping[str, int]) -> tuple[Product, ...]:
    """Products of a module, given those of its sublayer and the widths of its modules."""
    if wanted in nodes:
        node = nodes[wanted]
        everything = slice(0, widths(node)[0])
        return (Product(node, everything, everything),)
    apart = _PACKED.get(wanted, ())
    if apart and all(part in nodes for part in apart):
        return _one_after_another([nodes[part] for part in apart])
    for packed, members in _PACKED.items():
        if wanted in members and packed in nodes and all(part in beside for part in members):
            node, start = nodes[packed], sum(beside[p] for p in members[: members.index(wanted)])
            if sum(beside[part] for part in members) != widths(node)[0]:
                raise _unexpected(f"{node.name!r} is not as wide as {', '.join(members)} together")
            width = beside[wanted]
            return (Product(node, slice(start, start + width), slice(0, width)),)
    return ()


def _one_after_another(nodes: list[Any]) -> tuple[Product, ...]:
    parts, start = [], 0
    for node in nodes:
        width = widths(node)[0]
        parts.append(Product(node, slice(0, width), slice(start, start + width)))
        start += width
    return tuple(parts)


def _require_shape(name: str, parts: tuple[Product, ...], shape: tuple[int, int]) -> None:
    if not parts:
        raise _unexpected(f"no product computes {name}")
    given, read = parts[-1].features.stop, {widths(part.node)[1] for part in parts}
    if (given, read) != (shape[0], {shape[1]}):
        nodes = ", ".join(repr(part.node.name) for part in parts)
        raise _unexpected(f"{nodes} gives {given} features of {sorted(read)}, {name} {shape}")


def _unexpected(why: str) -> StageFailedError:
    return StageFailedError(
        f"the ONNX graph is not one that is known: {why}",
        "report it with the model's architecture",
    )
