"""Puts bottleneck adapters into a built ONNX graph, in fp32, whatever the precision around them.

They go in behind the quantiser, which so never sees them: they are a few weights, and learnt
without it. The nodes are ONNX's own (opset 20 and up has Gelu), so any runtime that opens the
graph opens it with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.export.graph_sublayers import sublayer_outputs
from slmcompile.models.bottleneck import NAMES, Placed
from slmcompile.models.graph_weights import open_graph, save_graph
from slmcompile.shapes.sublayers import Sublayer

_FOLDERS: dict[Sublayer, str] = {"self_attn": "attn", "mlp": "mlp"}
"""What the builder calls the sublayers."""


def insert(built: Path, adapters: Sequence[Placed], out: Path) -> None:
    """Writes into ``out`` the folder ``built`` with the adapters in its graph.

    Raises:
        CorruptError: the folder is damaged (exit 74).
        StageFailedError: the graph is not as expected (exit 1).
    """
    model = open_graph(built)
    outputs = sublayer_outputs(model)
    for placed in adapters:
        place = placed.place
        if (place.layer, place.sublayer) not in outputs:
            raise StageFailedError(
                f"the ONNX graph has no layer {place.layer}",
                "report it with the model's architecture",
            )
        _Nodes(model.graph, placed).behind(outputs[place.layer, place.sublayer])
    model.graph.sort()
    save_graph(model, built, out)


class _Nodes:
    """The nodes of one adapter."""

    def __init__(self, graph: Any, placed: Placed) -> None:
        place = placed.place
        self._graph = graph
        self._adapter = placed.adapter
        folder = f"layers.{place.layer}/{_FOLDERS[place.sublayer]}/{NAMES[place.sublayer]}"
        self._name = f"/model/{folder}"

    def behind(self, output: Any) -> None:
        """Everything that read a sublayer's output reads the adapter's instead."""
        import onnx_ir as ir

        width = self._adapter.down.in_features
        if output.dtype != ir.DataType.FLOAT or output.shape is None or output.shape[-1] != width:
            raise StageFailedError(
                f"{output.name!r} of the ONNX graph is {output.dtype} {output.shape}, and not fp32"
                f" of width {width}",
                "report it with the model's architecture",
            )
        readers = list(output.uses())
        inside = self._linear("down", output)
        inside = self._non_linearity(inside)
        result = self._node("Add", [output, self._linear("up", inside)], "Add", width)
        for node, index in readers:
            node.replace_input_with(index, result)

    def _linear(self, which: str, value: Any) -> Any:
        linear = getattr(self._adapter, which)
        weight = self._constant(f"{which}/weight", linear.weight.t())
        product = self._node("MatMul", [value, weight], f"{which}/MatMul", linear.out_features)
        bias = self._constant(f"{which}/bias", linear.bias)
        return self._node("Add", [product, bias], f"{which}/Add", linear.out_features)

    def _non_linearity(self, value: Any) -> Any:
        kind, width = self._adapter.settings.non_linearity, self._adapter.down.out_features
        if kind == "silu":
            gate = self._node("Sigmoid", [value], "act/Sigmoid", width)
            return self._node("Mul", [value, gate], "act/Mul", width)
        if kind in {"gelu", "gelu_new"}:
            form = "tanh" if kind == "gelu_new" else "none"
            return self._node("Gelu", [value], "act/Gelu", width, approximate=form)
        operation = {"relu": "Relu", "tanh": "Tanh"}[kind]
        return self._node(operation, [value], f"act/{operation}", width)

    def _node(self, kind: str, inputs: list[Any], name: str, width: int, **attributes: Any) -> Any:
        import onnx_ir as ir

        result = ir.Value(
            name=f"{self._name}/{name}/output_0",
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape([*inputs[0].shape[:-1], width]),
        )
        node = ir.node(
            kind, inputs, attributes=attributes, outputs=[result], name=f"{self._name}/{name}"
        )
        self._graph.append(node)
        return result

    def _constant(self, name: str, weight: Any) -> Any:
        import onnx_ir as ir

        whole = f"{self._name}/{name}"[1:].replace("/", ".")
        tensor = ir.tensor(weight.detach().float().contiguous().numpy(), name=whole)
        value = ir.Value(
            name=whole,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value
