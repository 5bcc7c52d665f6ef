"""Works around a race in the vector mathematics below torch, so that no result is half as exact.

oneMKL 2024 chooses the kernel of each vector function (cos, exp, sqrt, …) when it is first called.
If several threads make that first call at once, one of them may run a kernel of low accuracy for
its share: errors of 1e-4 that the next call does not have, found here in the rotary table of an
export. One call on one thread beforehand leaves nothing to race for. See pytorch/pytorch#188792:
torch 2.13 bundles oneMKL 2024.2; the race is gone from oneMKL 2025.0 on.
"""

from __future__ import annotations

_FUNCTIONS = (
    "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "expm1",
    "floor", "lgamma", "log", "log10", "log1p", "log2", "round", "rsqrt", "sigmoid", "sin", "sinh",
    "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
"""Unary functions of torch that it hands to oneMKL (``aten/src/ATen/cpu/vml.h``), and their kin."""


def choose_kernels() -> None:
    """Calls each function once on a single number; to be done before threads compute."""
    import torch

    for dtype in (torch.float32, torch.float64):
        number = torch.full((1,), 0.5, dtype=dtype)
        for name in _FUNCTIONS:
            getattr(torch, name)(number)
