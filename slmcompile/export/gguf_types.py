"""Which type each tensor of a GGUF file has: what people mean by F16, Q8_0 and Q4_K_M.

Q4_K_M gives the head, and in some layers the values and the way down, 6 bits in place of 4 (see
llama.cpp, tools/quantize/README.md). A row that blocks of 256 do not fill has the next larger type
of blocks of 32, as llama.cpp falls back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from slmcompile.providers.gguf import GgufTarget

_LARGER = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
_LAYER = re.compile(r"^blk\.(\d+)\.(attn_v|ffn_down)\.")


def type_of(target: GgufTarget, name: str, shape: Sequence[int], layers: int, *, tied: bool) -> Any:
    """The type of a tensor.

    Args:
        target: the precision.
        name: llama.cpp's.
        shape: rows and width of a matrix, or the length of what is none.
        layers: of the model.
        tied: whether the embedding is the head too.
    """
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(shape) < 2:
        return kinds.F32
    width = shape[-1]
    if target.precision == "f16" or width % 32:
        return kinds.F16
    if target.precision == "q8_0":
        return kinds.Q8_0
    head = name == "output.weight" or (tied and name == "token_embd.weight")
    placed = _LAYER.match(name)
    kind = "Q6_K" if head or (placed and _with_more(int(placed[1]), layers)) else "Q4_K"
    return kinds[kind if width % 256 == 0 else _LARGER[kind]]


def _with_more(layer: int, layers: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
