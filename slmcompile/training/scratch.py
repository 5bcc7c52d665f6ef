"""Buffers that a step writes over and over, in place of a new one for every intermediate result.

A block of a megabyte or more that malloc hands out is new memory to the kernel: it is zeroed and
mapped page by page when it is first written, which costs more than an element-wise pass over it.
What does not outlive the function that computes it therefore lies in one of these.
"""

from __future__ import annotations

from math import prod

import torch


class Scratch:
    """Buffers by name, each as large as the largest that was asked for by it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def of(
        self,
        name: str,
        shape: tuple[int, ...],
        like: torch.Tensor,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """A contiguous tensor of ``shape``, whatever was in it before; until the name's next use.

        Args:
            name: of the buffer; two that are alive at once have two names.
            shape: of the tensor.
            like: has its device, and its dtype where none is given.
            dtype: of the tensor.
        """
        key = name, dtype or like.dtype, like.device
        count = prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < count:
            # The old one goes first, so that they are never there together.
            self._buffers.pop(key, None)
            buffer = self._buffers[key] = torch.empty(count, dtype=key[1], device=like.device)
        return buffer[:count].view(shape)


class Kept:
    """Memory of what forward keeps for backward, taken again by the next step's forward.

    What is never given back (no backward pass came) goes with its tensors.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[torch.dtype, torch.device, int], list[torch.Tensor]] = {}

    def take(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """A contiguous tensor in the dtype and on the device of ``like``; holds anything."""
        count = prod(shape)
        free = self._free.setdefault((like.dtype, like.device, shape[-1]), [])
        # One that is too small is dropped: all of a step are as large as its batch.
        buffer = free.pop() if free else None
        if buffer is None or buffer.numel() < count:
            del buffer
            buffer = torch.empty(count, dtype=like.dtype, device=like.device)
        return buffer[:count].view(shape)

    def give(self, *tensors: torch.Tensor) -> None:
        """Those of ``take`` that nobody reads any more."""
        for each in tensors:
            whole = torch.empty(0, dtype=each.dtype, device=each.device)
            whole.set_(each.untyped_storage())
            self._free[each.dtype, each.device, each.shape[-1]].append(whole)
