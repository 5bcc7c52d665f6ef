"""Rounds a matrix as onnxruntime's quantiser does, and back: what ``MatMulNBits`` multiplies with.

The very functions of onnxruntime 1.31 that the model builder calls; a test compares the weights
with those that a built graph holds, to the bit.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch

Algorithm = Literal["k_quant", "rtn"]

_AT_ONCE = 1 << 20
"""Weights that are rounded at a time; rows are rounded each by itself."""


def rounded(weight: torch.Tensor, bits: int, block: int, algorithm: Algorithm) -> torch.Tensor:
    """The weights that are left of some, fp32.

    Args:
        weight: [out, in], fp32.
        bits: 4 or 8.
        block: weights along a row that share a scale and a zero point.
        algorithm: the builder's name of it; ``rtn`` is the one with zero points.
    """
    rows, width = weight.shape
    step = max(1, _AT_ONCE // max(1, width))
    found = np.empty((rows, width), dtype=np.float32)
    # Of a block of equal weights k_quant divides nothing by nothing, and keeps what it had.
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, rows, step):
            part = weight[start : start + step].numpy()
            found[start : start + step] = _part(part, bits, block, algorithm)
    return torch.from_numpy(found)


def _part(weight: Any, bits: int, block: int, algorithm: Algorithm) -> Any:
    from onnxruntime.quantization.neural_compressor import weight_only

    rows, width = weight.shape
    padded = np.pad(weight, ((0, 0), (0, math.ceil(width / block) * block - width)))
    # Turned, as it lies in a graph: where a row is one block, sums are taken in another order then.
    padded = np.ascontiguousarray(padded.T).T
    if algorithm == "k_quant":
        given = weight_only.quant_tensor_k_quant_cpu(padded, bits, block)
    else:
        given = weight_only.quant_tensor(padded, bits, block, "asym", "uint")
    quantised, scales, zeros = given
    back = quantised.astype(np.float32) - zeros.astype(np.float32)
    back *= scales.astype(np.float32)
    return back.reshape(rows, -1)[:, :width]
