"""A graph in bfloat16 becomes one in fp32 of the same numbers, wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slmcompile.inference.widened import GRAPH, in_bfloat16, widen

onnx = pytest.importorskip("onnx")

NARROW, WIDE = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
NUMBERS = np.array([1.5, -2.25, 3.140625, 1e-20, 5e37], dtype=np.float32)


def bits(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """bfloat16 of numbers, cut off."""
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)


def of_bits(stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (stored.astype(np.uint32) << 16).view(np.float32)


def tensor(name: str, *, raw: bool) -> Any:
    found = onnx.TensorProto(name=name, data_type=NARROW, dims=[len(NUMBERS)])
    if raw:
        found.raw_data = bits(NUMBERS).tobytes()
    else:
        found.int32_data.extend(bits(NUMBERS).tolist())
    return found


def make(folder: Path) -> None:
    """y = x + a + b + c + (a constant in a branch): raw, by integers, in a file, in a subgraph."""
    helper = onnx.helper
    outside = tensor("c", raw=True)
    content = outside.raw_data
    outside.ClearField("raw_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "weights"), ("offset", 64), ("length", len(content))):
        outside.external_data.add(key=key, value=str(value))
    (folder / "weights").write_bytes(b"\1" * 64 + content)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["k"], value=tensor("", raw=True))],
        "branch",
        [],
        [helper.make_tensor_value_info("k", NARROW, [5])],
    )
    always = helper.make_tensor("always", onnx.TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=NARROW),
        helper.make_node("Add", ["n", "a"], ["1"]),
        helper.make_node("Add", ["1", "b"], ["2"]),
        helper.make_node("Add", ["2", "c"], ["3"]),
        helper.make_node("If", ["always"], ["k4"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["3", "k4"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "whole",
        [
            helper.make_tensor_value_info("x", WIDE, [5]),
            helper.make_tensor_value_info("past", NARROW, [5]),
        ],
        [helper.make_tensor_value_info("y", NARROW, [5])],
        [tensor("a", raw=True), tensor("b", raw=False), outside, always],
        value_info=[helper.make_tensor_value_info("1", NARROW, [5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / GRAPH)


def test_every_number_is_the_same_and_the_cpu_runs_it(tmp_path: Path) -> None:
    import onnxruntime as ort

    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    out.mkdir()
    make(given)
    before = (given / GRAPH).read_bytes()
    assert in_bfloat16(given)
    widen(given, out)
    assert not in_bfloat16(out)
    assert (given / GRAPH).read_bytes() == before
    session = ort.InferenceSession(out / GRAPH, providers=["CPUExecutionProvider"])
    x = np.array([0.5, 1.0, 2.0, 0.0, -5e37], dtype=np.float32)
    (found,) = session.run(["y"], {"x": x, "past": x})
    each = of_bits(bits(NUMBERS))
    np.testing.assert_array_equal(found, x + each + each + each + each)
    assert sorted(path.name for path in out.iterdir()) == [
        GRAPH,
        "model.onnx.data",
        "tokenizer.json",
    ]
