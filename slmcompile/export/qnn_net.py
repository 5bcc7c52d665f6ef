"""An ONNX graph of fixed shapes, written node by node, whose values are rounded to integers or not.

Rounded is by pairs of ``QuantizeLinear`` and ``DequantizeLinear`` behind every operation, which the
QNN provider turns into integer arithmetic. An operation that only moves numbers keeps their scale.
Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

OPSET, IR = 23, 11
DATA = "weights.data"
"""File of all weights, beside the graphs that read it."""

_ALIGNED = 64
_SMALLEST = 1e-4
"""Least width of a range: a value that is always zero has one too."""

Range = tuple[float, float]


class WeightFile:
    """Weights of several graphs in one file, each written once.

    Args:
        folder: where ``DATA`` is made.

    Attributes:
        ranges: of every table the least and the largest number.
    """

    def __init__(self, folder: Path) -> None:
        self.ranges: dict[str, Range] = {}
        self._file = (folder / DATA).open("xb")
        self._stored: dict[str, TensorProto] = {}

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def tensors(self, names: Sequence[str], make: Callable[[], Sequence[Any]]) -> list[TensorProto]:
        """Tensors by these names, which are made where they are not there yet."""
        if names[0] not in self._stored:
            for name, array in zip(names, make(), strict=True):
                self._stored[name] = self._write(name, np.ascontiguousarray(array))
        return [self._stored[name] for name in names]

    def _write(self, name: str, array: Any) -> TensorProto:
        self._file.write(bytes(-self._file.tell() % _ALIGNED))
        offset = self._file.tell()
        self._file.write(array.tobytes())
        told = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        told.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        for key, value in (("location", DATA), ("offset", offset), ("length", array.nbytes)):
            told.external_data.add(key=key, value=str(value))
        return told


class Net:
    """A graph that is being written.

    Args:
        weights: where matrices and tables lie.
        ranges: of every value the least and the largest number. None leaves all of them in
            floating point, and the graph also gives their ranges for what it is run on.
    """

    def __init__(self, weights: WeightFile, ranges: Mapping[str, Range] | None) -> None:
        self._weights = weights
        self._ranges = None if ranges is None else dict(ranges)
        self._nodes: list[Any] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._scaled_as: dict[str, str] = {}
        self._watched: list[str] = []

    @property
    def rounds(self) -> bool:
        """Whether values are rounded to integers."""
        return self._ranges is not None

    def set_range(self, name: str, low: float, high: float) -> None:
        """Tells a range that follows from others, before the value is written."""
        if self._ranges is not None:
            self._ranges[name] = (low, high)

    def range_of(self, name: str) -> Range:
        """The least and the largest number of a value; of rounded graphs."""
        name = self._scaled_as.get(name, name)
        found = (self._ranges or {}).get(name)
        return self._weights.ranges[name] if found is None else found

    def given(self, name: str, shape: Sequence[int], dtype: Any) -> str:
        """An input of the graph."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def gives(self, name: str, shape: Sequence[int], dtype: Any) -> None:
        """Makes a value that has been written an output of the graph."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One operation as it stands, and the name of its result."""
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def value(
        self, op: str, inputs: Sequence[str], name: str, like: str = "", **attributes: Any
    ) -> str:
        """One operation, whose result is rounded; its name.

        ``like`` is the value whose numbers it moves, which it shares a scale with.
        """
        if like:
            self._scaled_as[name] = self._scaled_as.get(like, like)
        elif not self.rounds:
            self._watched.append(name)
        if not self.rounds:
            return self.node(op, inputs, name, **attributes)
        self.node(op, inputs, f"{name}.exact", **attributes)
        scale, zero = self.scale(name)
        return self.rounded(f"{name}.exact", name, scale, zero)

    def rounded(self, exact: str, name: str, scale: Any, zero: Any) -> str:
        """A value as it is behind an integer type and back; ``name.integer`` is between."""
        pair = self._pair(name, scale, zero)
        self.node("QuantizeLinear", [exact, *pair], f"{name}.integer")
        return self.node("DequantizeLinear", [f"{name}.integer", *pair], name)

    def read(self, integer: str, name: str, scale: Any, zero: Any) -> str:
        """A value that is given as integers."""
        return self.node("DequantizeLinear", [integer, *self._pair(name, scale, zero)], name)

    def scale(self, name: str) -> tuple[Any, Any]:
        """What a step of a value is worth, and which integer is zero; 16 bits, unsigned."""
        return _unsigned(*self.range_of(name))

    def signed_scale(self, name: str) -> tuple[Any, Any]:
        """The same in 16 bits with a sign, around zero."""
        return _signed(*self.range_of(name))

    def matrix(self, name: str, make: Callable[[], Any]) -> str:
        """A matrix [in, out] of weights in 8 bits, with a scale for each column.

        ``make`` gives it as [out, in] in fp32.
        """
        parts = [f"{name}.integer", f"{name}.scale", f"{name}.zero"]
        for tensor in self._weights.tensors(parts, lambda: _in_8_bits(make())):
            self._constants[tensor.name] = tensor
        return self.node("DequantizeLinear", parts, name, axis=1)

    def table(self, name: str, make: Callable[[], Any]) -> str:
        """Numbers in 16 bits that are no matrix of a product."""

        def made() -> list[Any]:
            numbers = make()
            self._weights.ranges[name] = (float(numbers.min()), float(numbers.max()))
            return _in_16_bits(numbers, *_unsigned(*self._weights.ranges[name]))

        parts = [f"{name}.integer", f"{name}.scale", f"{name}.zero"]
        for tensor in self._weights.tensors(parts, made):
            self._constants[tensor.name] = tensor
        return self.node("DequantizeLinear", parts, name)

    def numbers(self, *values: int) -> str:
        """A list of whole numbers, as shapes and axes are."""
        name = "numbers." + ".".join(map(str, values))
        if name not in self._constants:
            array = np.array(values, dtype=np.int64)
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def _pair(self, name: str, scale: Any, zero: Any) -> list[str]:
        for ending, number in (("scale", scale), ("zero", zero)):
            array = np.asarray(number)
            self._constants[f"{name}.{ending}"] = numpy_helper.from_array(array, f"{name}.{ending}")
        return [f"{name}.scale", f"{name}.zero"]

    def model(self) -> ModelProto:
        """The graph, whose weights lie in ``DATA``."""
        for name in () if self.rounds else self._watched:
            for op in ("ReduceMin", "ReduceMax"):
                self.node(op, [name], f"{name}.{op}", keepdims=0)
                self.gives(f"{name}.{op}", [], np.float32)
        graph = helper.make_graph(
            self._nodes, "model", self._inputs, self._outputs, list(self._constants.values())
        )
        opset = helper.make_opsetid("", OPSET)
        made: ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=IR)
        return made


def _unsigned(low: float, high: float) -> tuple[Any, Any]:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, _SMALLEST) / 65535
    return np.float32(scale), np.uint16(min(max(round(-low / scale), 0), 65535))


def _signed(low: float, high: float) -> tuple[Any, Any]:
    return np.float32(max(-low, high, _SMALLEST) / 32767), np.int16(0)


def _in_8_bits(matrix: Any) -> list[Any]:
    """[in, out] integers from −127 to 127, and a scale and a zero of each column."""
    largest = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-8)
    scale = (largest / 127).astype(np.float32)
    whole = np.clip(np.rint(matrix / scale), -127, 127).astype(np.int8)
    return [whole.T, scale.reshape(-1), np.zeros(len(matrix), np.int8)]


def _in_16_bits(numbers: Any, scale: Any, zero: Any) -> list[Any]:
    whole = np.clip(np.rint(numbers / scale) + int(zero), 0, 65535).astype(np.uint16)
    return [whole, np.asarray(scale), np.asarray(zero)]
