"""What a matrix takes that is stored in blocks: few bits a weight, a scale and a zero point each.

As ``MatMulNBits`` of ONNX Runtime has it: blocks along a row, the last of which may reach past the
row's end; an fp32 scale and a zero point of as many bits as a weight for each.
"""

from __future__ import annotations

from math import ceil

WIDE = 8
"""Bits of the weights that are not rounded to 4."""

_BLOCKS = (128, 64, 32)


def stored_bytes(rows: int, width: int, bits: int, block: int) -> int:
    """Bytes of a matrix with its scales and zero points."""
    blocks = ceil(width / block)
    return rows * (blocks * block * bits // 8 + 4 * blocks + ceil(blocks * bits / 8))


def block_of(width: int, bits: int, narrow: int) -> int:
    """Weights that share one scale.

    In 8 bits a scale more or less is no matter, so that a row takes the blocks in which it is
    smallest: of 128, if it is as wide as some of those.

    Args:
        width: of a row.
        bits: 4 or 8.
        narrow: the block of 4 bits.
    """
    if bits != WIDE:
        return narrow
    return min(_BLOCKS, key=lambda block: stored_bytes(1, width, bits, block))
