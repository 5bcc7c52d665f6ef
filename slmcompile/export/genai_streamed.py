"""onnxruntime-genai's builder over a model that is open, whose weights it quantises one by one.

Its own way is to open the saved model once more, to put all of it into one message and to quantise
that: three models in memory and one more on disk. Here it is given the open model, and each weight
goes through the builder's own quantiser in a graph of one node, before the next one is copied. What
comes out is the same to the byte; ``tests/stages/test_families.py`` tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def streamed(builder: ModuleType, model: Any) -> Iterator[None]:
    """Has the builder read an open model, for as long as it builds.

    Args:
        builder: ``onnxruntime_genai.models.builder``.
        model: a transformers model, which is as it was afterwards.
    """
    base = next(each for each in builder.LlamaModel.__mro__ if each.__name__ == "Model")
    given = {name: getattr(base, name) for name in ("make_model", "to_nbits")}

    def make_model(self: Any, input_path: str) -> None:
        if type(self).load_weights is base.load_weights:
            self.load_weights = lambda _path: model
        else:  # of a family that is read otherwise than it is opened
            model.save_pretrained(input_path)
        given["make_model"](self, input_path)
        self.__dict__.pop("load_weights", None)

    def to_nbits(self: Any) -> Any:
        return _quantized(self, given["to_nbits"])

    base.make_model, base.to_nbits = make_model, to_nbits
    parts = [(each, {*dict(each.named_children())}) for each in model.modules()]
    try:
        yield
    finally:
        for module, names in parts:  # packed projections have got their slices beside them
            for name in dict(module.named_children()).keys() - names:
                delattr(module, name)
        for name, function in given.items():
            setattr(base, name, function)


def _quantized(building: Any, quantize: Any) -> Any:
    """The builder's model, an ``onnx_ir.Model``, with quantised weights.

    Args:
        building: the builder's, with ``model``.
        quantize: its ``to_nbits``, which quantises all of ``building.model``.
    """
    import onnx_ir as ir
    from onnxruntime.quantization.neural_compressor.onnx_model import ONNXModel as Sorted
    from onnxruntime.quantization.onnx_model import ONNXModel

    whole = building.model
    kinds = building.quant_attrs["op_types_to_quantize"]
    places = {name: place for place, name in enumerate(whole.graph.initializers)}
    weights = _weights(whole, kinds)
    for name, weight in weights.items():
        if all(node.op_type in kinds for node in weight.consumers()):
            del whole.graph.initializers[name]
    proto = ir.to_proto(whole)
    nodes = list(proto.graph.node)
    behind: list[Any] = []
    del proto.graph.node[:]
    # Of the two quantisers behind it the default one keeps nodes in place and drops what is unused.
    in_place = building.quantization_algo == "default"
    for node in nodes:
        name = next((each for each in node.input if each in weights), "")
        if not name or node.op_type not in kinds:
            proto.graph.node.append(node)
            continue
        building.model = _alone(proto, node, weights[name].const_value)
        part = ir.to_proto(quantize(building)).graph
        (proto.graph.node if in_place else behind).extend(part.node)
        there = {each.name for each in proto.graph.initializer}
        proto.graph.initializer.extend(each for each in part.initializer if each.name not in there)
    # What was left as it is stays where it was.
    proto.graph.initializer.sort(key=lambda each: places.get(each.name, len(places)))
    if in_place:
        ONNXModel(proto).clean_initializers()
    else:
        proto.graph.node.extend(behind)
        Sorted(proto).topological_sort()
    building.model = whole
    return ir.from_proto(proto)


def _weights(whole: Any, kinds: Any) -> dict[str, Any]:
    """Values of the weights that are quantised, by name."""
    found = {}
    for node in whole.graph:
        name = _weight_of(node)
        if node.op_type in kinds and name in whole.graph.initializers:
            found[name] = whole.graph.initializers[name]
    return found


def _weight_of(node: Any) -> str:
    """Name of what a product multiplies by, or what a table is looked up in."""
    place = 0 if node.op_type == "Gather" else 1
    return node.inputs[place].name if len(node.inputs) > place else ""


def _alone(whole: Any, node: Any, weight: Any) -> Any:
    """A model of one node and its weight."""
    import onnx
    import onnx_ir as ir

    graph = onnx.GraphProto(name=whole.graph.name, node=[node])
    graph.initializer.append(ir.to_proto(weight))
    return ir.from_proto(
        onnx.ModelProto(ir_version=whole.ir_version, opset_import=whole.opset_import, graph=graph)
    )
