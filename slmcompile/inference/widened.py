"""A graph in bfloat16 as one in fp32, which the CPU runs: the same weights, other arithmetic.

onnxruntime 1.31 has no product of that type for the CPU, so the very graph has nothing here that
runs it. Each bfloat16 is a float32 whose lower half is zero, so no weight is rounded again; what is
rounded between two products on its processor is not rounded here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

GRAPH = "model.onnx"
_DATA = "model.onnx.data"
_ALIGNED = 4096
"""Bytes at whose multiples a weight begins, so that it can be mapped."""


def in_bfloat16(folder: Path) -> bool:
    """Whether a graph's values are bfloat16, as what it keeps of earlier tokens is."""
    import onnx

    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    return any(each.type.tensor_type.elem_type == _types()[0] for each in graph.input)


def widen(folder: Path, out: Path) -> None:
    """Writes a folder in fp32 that is otherwise as one in bfloat16, a weight at a time.

    Args:
        folder: of an export, with ``model.onnx``; nothing in it is changed.
        out: an empty folder. It takes twice the bytes.
    """
    import onnx

    model = onnx.load(folder / GRAPH, load_external_data=False)
    held = {GRAPH}
    with (out / _DATA).open("wb") as data:
        for graph in _graphs(model.graph):
            for tensor in graph.initializer:
                held |= _move(tensor, folder, data)
            for node in graph.node:
                _widen_node(node)
            for value in (*graph.input, *graph.output, *graph.value_info):
                _widen_type(value.type.tensor_type)
    onnx.save(model, out / GRAPH)
    for path in folder.iterdir():
        if path.is_file() and path.name not in held:
            shutil.copyfile(path, out / path.name)


def _types() -> tuple[int, int]:
    from onnx import TensorProto

    return TensorProto.BFLOAT16, TensorProto.FLOAT


def _graphs(graph: Any) -> Iterable[Any]:
    """A graph, and those in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for below in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(below)


def _move(tensor: Any, folder: Path, data: Any) -> set[str]:
    """Puts a weight at the end of the data, widened; returns the file that it lay in."""
    from onnx import TensorProto

    where = {each.key: each.value for each in tensor.external_data}
    if where:
        with (folder / where["location"]).open("rb") as stream:
            stream.seek(int(where.get("offset", 0)))
            content = stream.read(int(where["length"]))
        if tensor.data_type == TensorProto.BFLOAT16:
            content = _wide(content)
            tensor.data_type = TensorProto.FLOAT
        offset = data.tell()
        offset += data.write(b"\0" * (-offset % _ALIGNED))
        data.write(content)
        del tensor.external_data[:]
        for key, value in (("location", _DATA), ("offset", offset), ("length", len(content))):
            tensor.external_data.add(key=key, value=str(value))
        return {where["location"]}
    _widen_tensor(tensor)
    return set()


def _widen_tensor(tensor: Any) -> None:
    """Of one that lies in the graph itself: raw, or as one integer a value."""
    narrow, wide = _types()
    if tensor.data_type != narrow:
        return
    raw = tensor.raw_data or np.array(tensor.int32_data, dtype=np.uint16).tobytes()
    tensor.ClearField("int32_data")
    tensor.data_type, tensor.raw_data = wide, _wide(raw)


def _widen_node(node: Any) -> None:
    """What a node says of types: a cast's, and those of constants."""
    narrow, wide = _types()
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if attribute.name in ("to", "dtype") and attribute.i == narrow:
            attribute.i = wide


def _widen_type(tensor: Any) -> None:
    narrow, wide = _types()
    if tensor.elem_type == narrow:
        tensor.elem_type = wide


def _wide(content: bytes) -> bytes:
    return (np.frombuffer(content, dtype="<u2").astype("<u4") << 16).tobytes()
