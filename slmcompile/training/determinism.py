"""What makes the same run give the same bytes on the same kind of CPU.

Seeds, deterministic kernels and a fixed thread count, set for the time of a run and put back
after it; and the states of the global generators, for checkpoints.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from slmcompile.machine.vector_maths import choose_kernels


@contextmanager
def deterministic(seed: int, threads: int, device: torch.device) -> Iterator[None]:
    """Seeds python, numpy and torch; deterministic kernels on ``threads`` threads inside."""
    if device.type == "cuda":
        # Without it cuBLAS may take another algorithm from call to call, and torch refuses
        # (https://docs.nvidia.com/cuda/cublas/#results-reproducibility). Read once, at its start.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    choose_kernels()
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Deterministic mode also fills every new tensor with NaN, to show reads of memory that was
    # never written; that costs a pass over every activation and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from this one
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


def rng_states(device: torch.device) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """States of the global generators: python's and numpy's as JSON values, torch's as tensors."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss = random.getstate()
    values = {
        "python": [version, list(internal), gauss],
        "numpy": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
    }
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return values, tensors


def restore_rng_states(
    values: dict[str, Any], tensors: dict[str, torch.Tensor], device: torch.device
) -> None:
    """Sets the global generators to states that ``rng_states`` returned."""
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = values["numpy"]
    state = (kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached)
    np.random.set_state(state)  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)
