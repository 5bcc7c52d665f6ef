"""Finds, in a graph that onnxruntime-genai's builder has made, what each sublayer gives out.

By structure and not by name: from each attention, whose cache is a graph input that names its
layer, through its output projection to the add into the residual stream, from there through the
MLP to the next add; and every add must be of the stream that the one before it gave out. Nodes that
lie on the way from a projection to its add (a norm in Gemma, a multiplier in Granite) are behind
what is found, as they are behind the sublayer's module in torch.

Knows graphs of onnxruntime-genai 0.18, of whatever precision; knows nothing of adapters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.shapes.sublayers import Sublayer

_ATTENTION = frozenset({"GroupQueryAttention", "MultiHeadAttention"})
_CACHE = re.compile(r"past_key_values\.(\d+)\.key")
_PRODUCTS = frozenset({"MatMul", "MatMulNBits"})
_ADDS = frozenset({"SkipLayerNormalization", "SkipSimplifiedLayerNormalization"})
_NORMS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})
_IN_AN_MLP = frozenset({"Add", "Gelu", "Mul", "QuickGelu", "Relu", "Sigmoid", "Tanh"})
_NORMED, _STREAM = 0, 3
"""Outputs of an add: the norm of the sum, and the sum itself."""


def sublayer_outputs(model: Any) -> Mapping[tuple[int, Sublayer], Any]:
    """The value that the output projection of each sublayer gives, by layer and sublayer.

    Args:
        model: ``onnx_ir.Model``.

    Raises:
        StageFailedError: the graph is not one of pre-norm decoder layers as described (exit 1).
    """
    found: dict[tuple[int, Sublayer], Any] = {}
    stream: Any = None
    attentions = _attentions(model.graph)
    for layer, attention in enumerate(attentions):
        attended = _projected(attention.outputs[0], layer)
        add = _added(attended, layer)
        if layer and not _takes(add, stream):
            raise _unexpected(layer, "its attention is not added to what the layer below gave out")
        mixed = _mlp_output(add.outputs[_NORMED], layer)
        end = _added(mixed, layer)
        if not _takes(end, _output(add, _STREAM)):
            raise _unexpected(layer, "its MLP is not added to what its attention was added to")
        stream = _output(end, _STREAM)
        found[layer, "self_attn"], found[layer, "mlp"] = attended, mixed
    return found


def _attentions(graph: Any) -> list[Any]:
    """The attention of each layer, in order."""
    by_layer: dict[int, Any] = {}
    for node in graph:
        if node.op_type in _ATTENTION:
            for value in node.inputs:
                cache = _CACHE.fullmatch(value.name or "") if value is not None else None
                if cache and value.is_graph_input():
                    by_layer[int(cache[1])] = node
    if not by_layer or sorted(by_layer) != list(range(len(by_layer))):
        raise _unexpected(len(by_layer), "no attention reads its cache")
    return [by_layer[layer] for layer in range(len(by_layer))]


def _projected(value: Any, layer: int) -> Any:
    """What the product gives that alone reads a value, its bias added."""
    product = _sole_reader(value, layer)
    if product.op_type not in _PRODUCTS or product.inputs[0] is not value:
        raise _unexpected(layer, f"{product.op_type} stands where a projection is expected")
    return with_bias(product)


def with_bias(product: Any) -> Any:
    """A product's output, or that of the add of a constant vector behind it."""
    value = product.outputs[0]
    readers = value.consumers()
    if len(readers) == 1 and readers[0].op_type == "Add":
        bias = next((each for each in readers[0].inputs if each is not value), None)
        if bias is not None and _is_constant(bias) and len(bias.shape or ()) == 1:
            return readers[0].outputs[0]
    return value


def _added(value: Any, layer: int) -> Any:
    """The node that adds a sublayer's output to the residual stream."""
    while True:
        node = _sole_reader(value, layer)
        if node.op_type in _ADDS:
            return node
        others = [each for each in node.inputs if each is not None and each is not value]
        scaled = node.op_type in _NORMS | {"Mul"} and all(_is_constant(each) for each in others)
        if not scaled:
            raise _unexpected(layer, f"{node.op_type} stands where the residual add is expected")
        value = node.outputs[0]


def _mlp_output(normed: Any, layer: int) -> Any:
    """What the last product of an MLP gives, its bias added: the second on every way through it."""
    first = list(normed.consumers())
    if not first or any(node.op_type not in _PRODUCTS for node in first):
        kinds = ", ".join(sorted({node.op_type for node in first})) or "nothing"
        raise _unexpected(layer, f"{kinds} stands where the MLP's first product is expected")
    last: set[Any] = set()
    waiting, seen = first, set(first)
    while waiting:
        for node in waiting.pop().outputs[0].consumers():
            if node.op_type in _PRODUCTS:
                last.add(node)
            elif node.op_type not in _IN_AN_MLP:
                raise _unexpected(layer, f"{node.op_type} stands in the MLP")
            elif node not in seen:
                seen.add(node)
                waiting.append(node)
    if len(last) != 1:
        raise _unexpected(layer, f"the MLP ends in {len(last)} products and not in one")
    return with_bias(last.pop())


def _sole_reader(value: Any, layer: int) -> Any:
    readers = value.consumers()
    if len(readers) != 1:
        raise _unexpected(layer, f"{len(readers)} nodes read {value.name!r}, and not one")
    return readers[0]


def _takes(add: Any, stream: Any) -> bool:
    return stream is not None and any(value is stream for value in add.inputs[:2])


def _output(node: Any, number: int) -> Any:
    return node.outputs[number] if len(node.outputs) > number else None


def _is_constant(value: Any) -> bool:
    producer = value.producer()
    return value.const_value is not None or getattr(producer, "op_type", "") == "Constant"


def _unexpected(layer: int, why: str) -> StageFailedError:
    return StageFailedError(
        f"the ONNX graph has no known place for an adapter: layer {layer}: {why}",
        "train an adapter that merges (train=lora), and report it with the model's architecture",
    )
