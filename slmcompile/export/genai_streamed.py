"""onnxruntime-genai's builder over a model that is open, whose weights it quantises one by one.

Its own way is to open the saved model once more, to put all of it into one message and to quantise
that: three models in memory and one more on disk. Here it is given the open model, and each weight
goes through the builder's own quantiser in a graph of one node, before the next one is copied. What
comes out is the same to the byte; ``tests/stages/test_families.py`` tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from slmcompile.export.spent_weights import SpentWeights


@contextmanager
def streamed(builder: ModuleType, model: Any, *, spends: bool = False) -> Iterator[None]:
    """Has the builder read an open model, for as long as it builds.

    Args:
        builder: ``onnxruntime_genai.models.builder``.
        model: a transformers model, which is as it was afterwards; None to have the saved one read.
        spends: lets each of its weights go that is quantised; it is of no use afterwards.
    """
    base = next(each for each in builder.LlamaModel.__mro__ if each.__name__ == "Model")
    given = {name: getattr(base, name) for name in ("make_model", "to_nbits")}

    def make_model(self: Any, input_path: str) -> None:
        if model is None:
            pass
        elif type(self).load_weights is base.load_weights:
            self.load_weights = lambda _path: model
        else:  # of a family that is read otherwise than it is opened
            model.save_pretrained(input_path)
        given["make_model"](self, input_path)
        self.__dict__.pop("load_weights", None)

    def to_nbits(self: Any) -> Any:
        return _quantized(self, given["to_nbits"], model if spends else None)

    base.make_model, base.to_nbits = make_model, to_nbits
    parts = [(each, {*dict(each.named_children())}) for each in (model.modules() if model else ())]
    try:
        yield
    finally:
        for module, names in parts:  # packed projections have got their slices beside them
            for name in dict(module.named_children()).keys() - names:
                delattr(module, name)
        for name, function in given.items():
            setattr(base, name, function)


def _quantized(building: Any, quantize: Any, spent: Any) -> Any:
    """The builder's model, an ``onnx_ir.Model``, with quantised weights.

    Args:
        building: the builder's, with ``model``.
        quantize: its ``to_nbits``, which quantises all of ``building.model``.
        spent: the model whose weights go when they are quantised; None to keep them.
    """
    import onnx_ir as ir
    from onnxruntime.quantization.neural_compressor.onnx_model import ONNXModel

    whole = building.model
    kinds = building.quant_attrs["op_types_to_quantize"]
    kept = dict(whole.graph.initializers)
    weights = {_weight_of(node) for node in whole.graph if node.op_type in kinds}
    readers = Counter(each.name for node in whole.graph for each in node.inputs if each)
    spending = SpentWeights(spent, kept) if spent is not None else None
    whole.graph.initializers.clear()
    proto = ir.to_proto(whole)
    nodes = list(proto.graph.node)
    behind: list[Any] = []
    del proto.graph.node[:]
    # Of the two quantisers behind it the default one keeps nodes in place and drops what is unused.
    in_place = building.quantization_algo == "default"
    for node in nodes:
        name = next((each for each in node.input if each in kept and each in weights), "")
        if not name or node.op_type not in kinds:
            proto.graph.node.append(node)
            continue
        building.model = _alone(proto, node, kept[name])
        part = ir.to_proto(quantize(building)).graph
        (proto.graph.node if in_place else behind).extend(part.node)
        made = [each for each in part.initializer if each.name not in kept]
        proto.graph.initializer.extend(made)
        if made and readers[name] == 1:
            kept[name].const_value = None  # of a packed one nobody else holds the copy
            if spending:
                spending.let_go(name)
    building.model = whole
    if not in_place:
        proto.graph.node.extend(behind)
        ONNXModel(proto).topological_sort()
    return _with(ir.from_proto(proto), kept, unused=not in_place)


def _with(model: Any, kept: Mapping[str, Any], *, unused: bool) -> Any:
    """The model, with these initialisers first: those that nodes read, or unused ones too."""
    there = model.graph.initializers
    quantised = [there.pop(name) for name in [*there]]
    read = {each.name: each for node in model.graph for each in node.inputs if each}
    for name, value in kept.items():
        if value.const_value is not None and (name in read or unused):
            own = read.get(name, value)
            own.const_value, own.dtype, own.shape = value.const_value, value.dtype, value.shape
            model.graph.register_initializer(own)
    for value in quantised:
        model.graph.register_initializer(value)
    return model


def _weight_of(node: Any) -> str:
    """Name of what a product multiplies by, or what a table is looked up in."""
    place = 0 if node.op_type == "Gather" else 1
    return node.inputs[place].name if len(node.inputs) > place else ""


def _alone(whole: Any, node: Any, weight: Any) -> Any:
    """A model of one node and its weight, which is not copied."""
    import onnx
    import onnx_ir as ir

    graph = onnx.GraphProto(name=whole.graph.name, node=[node])
    alone = ir.from_proto(
        onnx.ModelProto(ir_version=whole.ir_version, opset_import=whole.opset_import, graph=graph)
    )
    (value,) = {each for each in alone.graph.node(0).inputs if each and each.name == weight.name}
    value.const_value, value.dtype, value.shape = weight.const_value, weight.dtype, weight.shape
    alone.graph.register_initializer(value)
    return alone
