"""fp32 masters of the trained weights, beside the copies that the model computes with.

In bf16 a weight has 8 bits of mantissa: a step of 1e-4 of its size would be rounded away. So the
optimizer owns fp32 masters, gradients of all micro-batches are summed in fp32, and the model gets
a rounded copy after every step (Micikevicius et al., arXiv:1710.03740). In fp32 master and copy
are the same tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class MasterWeights:
    """Masters of a learner's parameters, by name.

    Each carries that name as ``weight_name``, for an optimizer that tells them apart.

    Args:
        copies: parameters of a model, which are cast to ``dtype`` in place.
        dtype: dtype that the model computes in.
    """

    def __init__(self, copies: Mapping[str, nn.Parameter], dtype: torch.dtype) -> None:
        self._copies = copies
        self.masters: dict[str, nn.Parameter] = {}
        for name, copy in self._copies.items():
            if dtype == torch.float32:
                copy.data = copy.data.float()
                self.masters[name] = copy
            else:
                # A weight that is fp32 becomes the master as it is: the cast is the copy.
                self.masters[name] = nn.Parameter(copy.detach().to(torch.float32))
                copy.data = copy.data.to(dtype)
            self.masters[name].weight_name = name  # type: ignore[attr-defined]  # torch allows any

    def collect_gradients(self) -> None:
        """Adds the copies' gradients to the masters' and clears them."""
        for name, copy in self._copies.items():
            master = self.masters[name]
            if copy is master or copy.grad is None:
                continue
            if master.grad is None:
                master.grad = copy.grad.float()
            else:
                master.grad.add_(copy.grad)
            copy.grad = None

    def forget_gradients(self) -> None:
        """As if no backward pass had been."""
        for name, copy in self._copies.items():
            copy.grad = self.masters[name].grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the copies."""
        for name, copy in self._copies.items():
            if copy is not self.masters[name]:
                copy.copy_(self.masters[name])

    @torch.no_grad()
    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Sets the masters and publishes them."""
        for name, master in self.masters.items():
            master.copy_(weights[name])
        self.publish()

    def tensors(self) -> dict[str, torch.Tensor]:
        """The masters themselves, to be read before the next step."""
        return {name: master.detach() for name, master in self.masters.items()}

    def snapshot(self) -> dict[str, torch.Tensor]:
        """A copy of the masters that later steps do not touch."""
        return {name: master.detach().clone() for name, master in self.masters.items()}
