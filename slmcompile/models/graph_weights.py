"""Reads the matrices of a graph that onnxruntime-genai's builder has made, a few rows at a time.

What a product multiplies with, to the number: at accuracy level 0 onnxruntime computes
(q - zero point) x scale in fp32 and nothing else from it
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, MatMulNBits and
GatherBlockQuantized).

Files are mapped here and not by ``onnx_ir``, which refuses one that is a hard link or a link to
elsewhere, as DVC may put a stage's output into its place.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from math import ceil, prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.models.graph_products import Embedding, Product, require_weights, widths

GRAPH = "model.onnx"

_MADE_AGAIN = "remove the folder and run the recipe again; it will be built again"
_GROUP_INDEX, _BIAS = 4, 5
"""Inputs of ``MatMulNBits`` that the builder leaves out."""


class Matrix(Protocol):
    """Weights as torch has them: a row for each feature that is given."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """[out, in], or [tokens, width]."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Some of its rows, fp32."""


def open_graph(folder: Path) -> Any:
    """The ``onnx_ir.Model`` of a folder, all of whose weights lie in the folder's files.

    Raises:
        CorruptError: it cannot be read, or a file is shorter than the graph says (exit 74).
    """
    import onnx_ir as ir
    from google.protobuf.message import DecodeError

    try:
        model = ir.load(folder / GRAPH)
    except (OSError, ValueError, DecodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CorruptError(f"{folder / GRAPH}: not an ONNX graph: {reason}", _MADE_AGAIN) from error
    sizes: dict[str, int] = {}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            name = str(tensor.location)
            if name not in sizes:
                sizes[name] = _size(folder, name)
            if (tensor.offset or 0) + tensor.nbytes > sizes[name]:
                raise CorruptError(
                    f"{folder / name}: ends at byte {sizes[name]}, within {value.name}", _MADE_AGAIN
                )
    return model


def save_graph(model: Any, opened: Path, out: Path) -> None:
    """Writes a folder like the one that a graph was opened from, with the graph as it is by now.

    Weights that were there stay in their file, which is copied and not read: it may have a second
    name, as what is kept or cached has, and onnx_ir reads no such file.
    """
    import onnx_ir as ir

    ir.save(model, out / GRAPH)
    for path in sorted(opened.iterdir()):
        if path.name != GRAPH:
            shutil.copyfile(path, out / path.name)


def _size(folder: Path, name: str) -> int:
    """Bytes of a file of the folder itself."""
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise CorruptError(f"{path}: no such file in the model's folder", _MADE_AGAIN)
    return path.stat().st_size


def of_product(product: Product) -> Matrix:
    """All that a product multiplies with, of which ``product.rows`` are its module's.

    Raises:
        StageFailedError: it is held in a form that is not known (exit 1).
        CorruptError: the shapes of what it is held in do not go together (exit 74).
    """
    node = product.node
    if node.op_type == "MatMul":
        return _Floats(_array(node.inputs[1]), turned=True)
    extra = any(_input(node, number) is not None for number in (_GROUP_INDEX, _BIAS))
    if extra or _attribute(node, "weight_prepacked", 0):
        raise _unknown(node, "has inputs or a layout that the CPU's builder does not give it")
    return _Blocks(node, node.inputs[1:4], widths(node))


def of_embedding(embedding: Embedding, shape: tuple[int, int]) -> Matrix:
    """The table of a look-up, a row for each token.

    Args:
        embedding: as ``graph_products.embedding`` finds it.
        shape: [tokens, width].

    Raises:
        StageFailedError: it is held in a form that is not known (exit 1).
        CorruptError: the shapes of what it is held in do not go together (exit 74).
    """
    node = embedding.node
    if node.op_type == "Gather":
        return _Floats(_array(embedding.table), turned=embedding.turned)
    if _attribute(node, "quantize_axis", 1) != 1 or _attribute(node, "gather_axis", 0) != 0:
        raise _unknown(node, "is not quantised along the width")
    return _Blocks(node, (embedding.table, *node.inputs[2:4]), shape)


class _Floats:
    """Weights that are stored as numbers.

    Args:
        stored: of two axes.
        turned: whether a column is what a row is in torch.
    """

    def __init__(self, stored: Any, *, turned: bool) -> None:
        self._rows = stored.T if turned else stored

    @property
    def shape(self) -> tuple[int, int]:
        """See ``Matrix``."""
        return self._rows.shape[0], self._rows.shape[1]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """See ``Matrix``."""
        return torch.from_numpy(np.array(self._rows[start:stop], dtype=np.float32, order="C"))


class _Blocks:
    """Weights of 4 or 8 bits, in blocks along a row that share a scale and a zero point.

    Of two weights of 4 bits in a byte the first is the low half, and so of two zero points; where
    none are stored they are the middle of the range. A row's last block may reach past its end.

    Args:
        node: what multiplies with them or looks them up.
        stored: its inputs: weights, scales and, where it has them, zero points.
        shape: of what they mean.
    """

    def __init__(self, node: Any, stored: Any, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._bits = _attribute(node, "bits", 4)
        self._block = _attribute(node, "block_size", 0)
        if self._bits not in {4, 8} or self._block < 1:
            raise _unknown(node, f"holds {self._bits} bits in blocks of {self._block}")
        weights, scales, *rest = stored
        zeros = next((value for value in rest if value is not None), None)
        self._blocks = ceil(shape[1] / self._block)
        self._packed = self._per_row(weights, self._blocks * self._block * self._bits // 8)
        self._scales = self._per_row(scales, self._blocks)
        self._zeros = None
        if zeros is not None:
            self._zeros = self._per_row(zeros, ceil(self._blocks * self._bits / 8))
        integers = (self._packed, *(() if self._zeros is None else (self._zeros,)))
        if any(each.dtype != np.uint8 for each in integers):
            raise _unknown(node, "has weights or zero points that are not uint8")

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """See ``Matrix``."""
        count = self._blocks * self._block
        found = self._unpacked(self._packed[start:stop], count)
        found = found.reshape(stop - start, self._blocks, self._block)
        if self._zeros is None:
            found -= 1 << (self._bits - 1)
        else:
            found -= self._unpacked(self._zeros[start:stop], self._blocks)[..., None]
        scales = np.asarray(self._scales[start:stop], dtype=np.float32)
        # Damaged scales give no numbers, of which the reader is told otherwise.
        with np.errstate(invalid="ignore", over="ignore"):
            found *= scales[..., None]
        return torch.from_numpy(found.reshape(stop - start, count)[:, : self.shape[1]])

    def _unpacked(self, stored: Any, count: int) -> Any:
        """``count`` numbers of each row, fp32."""
        if self._bits == 8:
            return stored.astype(np.float32)
        found = np.empty((len(stored), 2 * stored.shape[1]), dtype=np.float32)
        found[:, 0::2] = stored & 15
        found[:, 1::2] = stored >> 4
        return found[:, :count]

    def _per_row(self, value: Any, width: int) -> Any:
        """What is stored for each row."""
        array = _array(value)
        if array.size != self.shape[0] * width:
            raise CorruptError(
                f"the ONNX graph's {value.name!r} holds {array.size} numbers, and not"
                f" {self.shape[0]} x {width}",
                _MADE_AGAIN,
            )
        return array.reshape(self.shape[0], width)


def _array(value: Any) -> Any:
    """An initialiser's numbers, where they lie."""
    import onnx_ir as ir

    require_weights(value)
    tensor = value.const_value
    if not isinstance(tensor, ir.ExternalTensor) or not prod(tensor.shape):
        return tensor.numpy()
    return np.memmap(
        tensor.path,
        dtype=tensor.dtype.numpy(),
        mode="r",
        offset=tensor.offset or 0,
        shape=tuple(tensor.shape.numpy()),
    )


def _input(node: Any, number: int) -> Any:
    return node.inputs[number] if len(node.inputs) > number else None


def _attribute(node: Any, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else int(found.as_int())


def _unknown(node: Any, why: str) -> StageFailedError:
    return StageFailedError(
        f"the ONNX graph is not one that is known: {node.name!r} {why}",
        "report it with the model's architecture",
    )
