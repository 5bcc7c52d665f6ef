"""Makes a graph's products ones of integers: 8 bits of weights, 8 of what comes in at each step.

Every column of a matrix has a scale of its own, and so has every token of what comes in: the first
token of many models is thousands of times the others, and with one scale for all
(``DynamicQuantizeLinear``) nothing would be left of those. Bytes are unsigned, around 128:
onnxruntime's product of unsigned by signed bytes saturates on processors without VNNI, and these
answer alike everywhere. An embedding keeps a scale for each of its tokens; where it is the head as
well both are one table.

Reads and writes a matrix at a time. Knows the graph as onnxruntime-genai 0.18's builder writes it
in fp32: its products have constants on the right, its embedding is a ``Gather``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

_GRAPH, _DATA = "model.onnx", "model.onnx.data"
_MIDDLE, _LARGEST = 128, 127
_ALIGNED = 64
_BLOCK = 1 << 20
"""Elements of a matrix that are quantised at once."""

_MIDDLES, _UP, _STEP, _LEAST, _LAST = (
    f"int8/{name}" for name in ("middle", "up", "step", "least", "last")
)
_CONSTANTS: Mapping[str, Any] = {
    _MIDDLES: np.uint8(_MIDDLE),
    _UP: np.float32(_MIDDLE),
    _STEP: np.float32(1 / _LARGEST),
    _LEAST: np.float32(1e-30),
    _LAST: np.array([-1], np.int64),
}


def quantise(folder: Path, out: Path) -> None:
    """Writes ``model.onnx`` and its data into ``out``, of those in ``folder``."""
    import onnx

    model = onnx.load(folder / _GRAPH, load_external_data=False)
    with (out / _DATA).open("wb") as data:
        made = _Made(model.graph, folder, data)
        nodes = [new for node in model.graph.node for new in made.nodes(node)]
        kept = made.initialisers()
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    onnx.save(model, out / _GRAPH)


class _Made:
    """Nodes and constants of the new graph."""

    def __init__(self, graph: Any, folder: Path, data: IO[bytes]) -> None:
        self._folder, self._data = folder, data
        self._given: dict[str, Any] = {each.name: each for each in graph.initializer}
        # A tied embedding is the head's matrix, turned.
        self._turned: dict[str, str] = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Transpose" and node.input[0] in self._given
        }
        self._tables: dict[str, tuple[str, str]] = {}
        self._inputs: set[str] = set()
        self._new: list[Any] = [self._constant(*each) for each in _CONSTANTS.items()]

    def initialisers(self) -> list[Any]:
        """The constants that the nodes read; those of other types go over as they are."""
        rest = [each for name, each in self._given.items() if name not in self._tables]
        return [*map(self._moved, rest), *self._new]

    def nodes(self, node: Any) -> list[Any]:
        """What stands in the place of a node."""
        if node.op_type == "MatMul" and self._is_matrix(node.input[1]):
            return self._product(node)
        if node.op_type == "Gather" and self._is_matrix(self._source(node.input[0])):
            return self._embedding(node)
        return [] if node.output and node.output[0] in self._turned else [node]

    def _source(self, name: str) -> str:
        return self._turned.get(name, name)

    def _is_matrix(self, name: str) -> bool:
        given = self._given.get(name)
        return given is not None and given.data_type == 1 and len(given.dims) == 2

    def _product(self, node: Any) -> list[Any]:
        from onnx import TensorProto, helper

        given, (table, scales), name = node.input[0], self._table(node.input[1]), node.name
        parts = {part: f"{name}/int8/{part}" for part in ("product", "float", "even")}
        low, scale = f"{given}/int8/bytes", f"{given}/int8/scale"
        return [
            *self._lowered(given, low, scale),
            helper.make_node(
                "MatMulInteger", [low, table, _MIDDLES, _MIDDLES], [parts["product"]], name
            ),
            helper.make_node(
                "Cast", [parts["product"]], [parts["float"]], f"{name}/Cast", to=TensorProto.FLOAT
            ),
            helper.make_node("Mul", [parts["float"], scale], [parts["even"]], f"{name}/Row"),
            helper.make_node("Mul", [parts["even"], scales], [node.output[0]], f"{name}/Column"),
        ]

    def _lowered(self, given: str, low: str, scale: str) -> list[Any]:
        """What comes in as bytes, each token by its own largest value; once for all products."""
        from onnx import TensorProto, helper

        if given in self._inputs:
            return []
        self._inputs.add(given)
        steps = [f"{given}/int8/{part}" for part in ("size", "largest", "safe", "whole", "up")]
        size, largest, divided, whole, up = steps
        return [
            helper.make_node("Abs", [given], [size]),
            helper.make_node("ReduceMax", [size, _LAST], [largest], keepdims=1),
            helper.make_node("Mul", [largest, _STEP], [f"{scale}/bare"]),
            helper.make_node("Max", [f"{scale}/bare", _LEAST], [scale]),
            helper.make_node("Div", [given, scale], [divided]),
            helper.make_node("Round", [divided], [whole]),
            helper.make_node("Add", [whole, _UP], [up]),
            helper.make_node("Cast", [up], [low], to=TensorProto.UINT8),
        ]

    def _embedding(self, node: Any) -> list[Any]:
        """Rows of the table, and the scale of each."""
        from onnx import TensorProto, helper

        source, name = self._source(node.input[0]), node.name
        by_row = source == node.input[0]
        table, scales = self._table(source, by_row=by_row)
        parts = {p: f"{name}/int8/{p}" for p in ("table", "bytes", "float", "even", "scale")}
        column = f"{scales}/column"
        rows = int(self._given[source].dims[0 if by_row else 1])
        shape = self._constant(f"{name}/int8/shape", np.array([rows, 1], np.int64))
        self._new.append(shape)
        ids, rows_of = node.input[1], table if by_row else parts["table"]
        turned = [helper.make_node("Transpose", [table], [parts["table"]], perm=[1, 0])]
        return [
            *([] if by_row else turned),
            helper.make_node("Reshape", [scales, shape.name], [column]),
            helper.make_node("Gather", [rows_of, ids], [parts["bytes"]]),
            helper.make_node("Gather", [column, ids], [parts["scale"]]),
            helper.make_node("Cast", [parts["bytes"]], [parts["float"]], to=TensorProto.FLOAT),
            helper.make_node("Sub", [parts["float"], _UP], [parts["even"]]),
            helper.make_node("Mul", [parts["even"], parts["scale"]], [node.output[0]], name),
        ]

    def _table(self, name: str, *, by_row: bool = False) -> tuple[str, str]:
        """Names of a matrix's bytes and scales; one of each, however often it is read."""
        if name not in self._tables:
            low, scales = _rounded(self._read(self._given[name]), by_row=by_row)
            self._tables[name] = (f"{name}/int8", f"{name}/int8/scales")
            for new, values in zip(self._tables[name], (low, scales), strict=True):
                self._new.append(self._written(new, values))
        return self._tables[name]

    def _read(self, given: Any) -> np.ndarray[Any, Any]:
        from onnx import numpy_helper

        where: Mapping[str, str] = {each.key: each.value for each in given.external_data}
        if not where:
            return numpy_helper.to_array(given)
        found: np.ndarray[Any, Any] = np.memmap(
            self._folder / where["location"],
            dtype=np.float32,
            mode="r",
            offset=int(where.get("offset", 0)),
            shape=tuple(given.dims),
        )
        return found

    def _moved(self, given: Any) -> Any:
        """A constant that stays; one that lay in the old data lies in the new."""
        where = {each.key: each.value for each in given.external_data}
        if where:
            with (self._folder / where["location"]).open("rb") as stream:
                stream.seek(int(where.get("offset", 0)))
                self._place(given, stream.read(int(where["length"])))
        return given

    def _written(self, name: str, values: np.ndarray[Any, Any]) -> Any:
        from onnx import TensorProto, helper

        tensor = TensorProto(name=name, dims=values.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        self._place(tensor, values.tobytes())
        return tensor

    def _place(self, tensor: Any, content: bytes) -> None:
        """Puts a tensor's bytes at the end of the data."""
        from onnx import TensorProto

        offset = self._data.tell()
        offset += self._data.write(b"\0" * (-offset % _ALIGNED))
        self._data.write(content)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", _DATA), ("offset", offset), ("length", len(content))):
            tensor.external_data.add(key=key, value=str(value))

    @staticmethod
    def _constant(name: str, value: Any) -> Any:
        from onnx import numpy_helper

        return numpy_helper.from_array(np.asarray(value), name)


def _rounded(
    matrix: np.ndarray[Any, Any], *, by_row: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Bytes around 128 and the scale of each column, or row."""
    along = 1 if by_row else 0
    low = np.empty(matrix.shape, np.uint8)
    largest = np.maximum(matrix.max(axis=along), -matrix.min(axis=along))
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    rows = max(1, _BLOCK // matrix.shape[1])
    for start in range(0, len(matrix), rows):
        part = slice(start, start + rows)
        by = scales[part, None] if by_row else scales
        low[part] = np.rint(matrix[part] / by).clip(-_LARGEST, _LARGEST) + _MIDDLE
    return low, scales
