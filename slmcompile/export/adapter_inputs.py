"""Puts LoRA adapters beside the products of a built ONNX graph, as run-time inputs of it.

The weights of the base are not touched, quantised or not: their file is copied as it is. Behind
every product and its bias stands an add of x·A·B in fp32. A and B are inputs with a default of rank
0, which adds nothing; onnxruntime's adapters, which are onnxruntime-genai's too, fill them. The
nodes are ONNX's own, so any runtime that opens the graph opens it with them.

Knows graphs of onnxruntime-genai 0.18, of whatever precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.export.graph_sublayers import with_bias
from slmcompile.models.adapter_layout import (
    DTYPE,
    AdapterLayout,
    DownInput,
    UpInput,
    write_layout,
)
from slmcompile.models.graph_products import Product, products
from slmcompile.models.graph_weights import open_graph, save_graph
from slmcompile.models.low_rank import LowRank
from slmcompile.shapes.target_modules import leaf


@dataclass(frozen=True, eq=False)
class _Beside:
    """What reads one value: the inputs, and of each product which of them are added behind it."""

    source: Any
    down: DownInput
    ups: tuple[tuple[Any, tuple[UpInput, ...]], ...]


def graft(
    built: Path,
    modules: Mapping[str, tuple[int, int]],
    adapted: Collection[str],
    out: Path,
    default: Mapping[str, LowRank] | None = None,
) -> AdapterLayout:
    """Writes into ``out`` the folder ``built`` with places for adapters in its graph.

    Args:
        built: a folder of the builder's.
        modules: [out, in] of all linear layers by name.
        adapted: names of those that some adapter is on.
        out: an existing folder.
        default: the adapter that the graph has where none is set; without one that is the base.

    Returns:
        the graph's inputs for adapters, which are also written beside it.

    Raises:
        CorruptError: the folder is damaged (exit 74).
        StageFailedError: the graph is not as expected (exit 1).
        BadRecipeError: the default has a module that is not adapted (exit 78).
    """
    model = open_graph(built)
    order = {node: number for number, node in enumerate(model.graph)}
    found = list(_all_beside(products(model, modules), adapted, order))
    layout = AdapterLayout(tuple(beside.down for beside in found))
    values = layout.values(default or {})
    for beside in found:
        _require_dtype(beside.source)
        _Nodes(model.graph, beside, values).add()
    model.graph.sort()
    save_graph(model, built, out)
    write_layout(layout, out)
    return layout


def _all_beside(
    found: Mapping[str, Sequence[Product]], adapted: Collection[str], order: Mapping[Any, int]
) -> Iterator[_Beside]:
    """By the value that is read, which projections side by side share; in the graph's order."""
    parts = [(m, part) for m, several in found.items() if m in adapted for part in several]
    by_source: dict[Any, list[tuple[str, Product]]] = {}
    for module, part in sorted(parts, key=lambda p: (order[p[1].node], p[1].rows.start)):
        by_source.setdefault(part.node.inputs[0], []).append((module, part))
    for source, parts in by_source.items():
        yield _beside(source, parts)


def _beside(source: Any, parts: Sequence[tuple[str, Product]]) -> _Beside:
    modules = tuple(dict.fromkeys(module for module, _ in parts))
    by_node: dict[Any, list[tuple[str, Product]]] = {}
    for module, part in parts:
        by_node.setdefault(part.node, []).append((module, part))
    ups = tuple((node, tuple(_ups(node, group))) for node, group in by_node.items())
    first = modules[0].removesuffix(leaf(modules[0]))
    name = f"adapter.{first}{'+'.join(leaf(module) for module in modules)}"
    down = DownInput(
        name=f"{name}.A",
        in_features=int(source.shape[-1]),
        modules=modules,
        ranks=f"{name}.ranks" if len(modules) > 1 else None,
        ups=tuple(up for _, group in ups for up in group),
    )
    return _Beside(source, down, ups)


def _ups(node: Any, parts: Sequence[tuple[str, Product]]) -> Iterator[UpInput]:
    """Inputs as wide together as a product; rows that no adapter is on go with those before."""
    ends = [part.rows.start for _, part in parts[1:]] + [int(node.outputs[0].shape[-1])]
    start = 0
    for (module, part), end in zip(parts, ends, strict=True):
        which = "" if part.features.start == 0 else f".{part.features.start}"
        yield UpInput(
            name=f"adapter.{module}.B{which}",
            module=module,
            features=(part.features.start, part.features.stop),
            start=part.rows.start - start,
            width=end - start,
        )
        start = end


class _Nodes:
    """The inputs and nodes behind one value."""

    def __init__(self, graph: Any, beside: _Beside, values: Mapping[str, Any]) -> None:
        self._graph = graph
        self._source = beside.source
        self._down = beside.down
        self._ups = beside.ups
        self._values = values

    def add(self) -> None:
        """Everything that read a product reads it with the adapter's part added."""
        down = self._down
        taken = self._input(down.name, [down.in_features, None])
        inside = {down.modules[0]: self._node("MatMul", [self._source, taken], None)}
        if down.ranks is not None:
            inside = self._split(inside[down.modules[0]], down.ranks)
        for node, ups in self._ups:
            added = [self._up(inside[up.module], up) for up in ups]
            if len(added) > 1:
                added = [self._node("Concat", added, sum(up.width for up in ups), axis=-1)]
            self._behind(with_bias(node), added[0])

    def _split(self, joined: Any, name: str) -> dict[str, Any]:
        modules = self._down.modules
        # By sizes that are an input: onnxruntime 1.31 splits no rank of 0 into equal parts.
        ranks = self._input(name, [len(modules)])
        node = self._append("Split", [joined, ranks], len(modules), axis=-1)
        for value in node.outputs:
            self._type(value, joined, None)
        return dict(zip(modules, node.outputs, strict=True))

    def _up(self, inside: Any, up: UpInput) -> Any:
        return self._node("MatMul", [inside, self._input(up.name, [None, up.width])], up.width)

    def _behind(self, output: Any, added: Any) -> None:
        """In the place of ``output``, also where the graph gives it out under its name."""
        _require_dtype(output)
        readers = list(output.uses())
        result = self._node("Add", [output, added], added.shape[-1])
        for node, index in readers:
            node.replace_input_with(index, result)
        for index, value in enumerate(self._graph.outputs):
            if value is output:
                result.shape = output.shape
                output.name, result.name = f"{output.name}/alone", output.name
                self._graph.outputs[index] = result

    def _node(self, kind: str, inputs: list[Any], width: int | None, **attributes: Any) -> Any:
        node = self._append(kind, inputs, 1, **attributes)
        self._type(node.outputs[0], inputs[0], width)
        return node.outputs[0]

    def _append(self, kind: str, inputs: list[Any], outputs: int, **attributes: Any) -> Any:
        """Named by what is learnt in it, or by the product that it is added to."""
        import onnx_ir as ir

        last = inputs[-1].name.removesuffix("/output_0").strip("/").replace(".", "/")
        name = f"/{last}/{kind}"
        node = ir.node(
            kind,
            inputs,
            attributes=attributes,
            outputs=[ir.Value(name=f"{name}/output_{number}") for number in range(outputs)],
            name=name,
        )
        self._graph.append(node)
        return node

    def _type(self, value: Any, like: Any, width: int | None) -> None:
        import onnx_ir as ir

        value.type = like.type
        last = f"{value.name}/rank" if width is None else width
        value.shape = ir.Shape([*like.shape[:-1], last])

    def _input(self, name: str, shape: Sequence[int | None]) -> Any:
        """A graph input with a default; None stands for what an adapter's rank decides."""
        import onnx_ir as ir

        tensor = ir.tensor(self._values[name], name=name)
        sizes = [f"{name}.rank" if size is None else size for size in shape]
        value = ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(sizes),
            const_value=tensor,
        )
        self._graph.inputs.append(value)
        self._graph.register_initializer(value)
        return value


def _require_dtype(value: Any) -> None:
    """An adapter is added in the type that its inputs have."""
    if value.dtype is None or value.dtype.numpy() != DTYPE or value.shape is None:
        raise StageFailedError(
            f"{value.name!r} of the ONNX graph is {value.dtype} {value.shape}, and not {DTYPE}",
            "report it with the model's architecture",
        )
