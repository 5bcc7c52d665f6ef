"""Dropout whose draws are a pure function of seed, module, optimizer step and row.

torch's dropout draws from a global generator: what a row loses then depends on what else is in
its batch, and on everything that drew before. Here two runs that train the same row at the same
step drop the same elements, whatever trains beside it; and nothing has to be kept for a second
forward pass or a checkpoint.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from slmcompile.training.batches import Part
from slmcompile.training.layout import Layout

_STEPS = 1 << 16
"""Probabilities are rounded to this fraction: two random bytes an element."""


class RowDropout(nn.Module):
    """Dropout on what a module's adapter reads (arXiv:1207.0580), by row.

    Args:
        layout: tells which rows are there.
        member: whose adapter it is; it sees the rows of that learner alone.
        name: of the module, in the model.
        p: probability that an element is dropped, from 0 to below 1.
        seed: of the run.
    """

    def __init__(self, layout: Layout, member: str, name: str, p: float, seed: int) -> None:
        super().__init__()
        self._layout, self._member, self._name, self._seed = layout, member, name, seed
        # Something is kept of whatever is less than 1.
        self._threshold = min(round(p * _STEPS), _STEPS - 1)

    @property
    def scale(self) -> float:
        """What is kept is multiplied by it, so that the mean stays."""
        return _STEPS / (_STEPS - self._threshold)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """X [1, tokens of the learner, width]; in eval mode as it is."""
        keep = self.keep(x.shape[-1], x.device)
        return x if keep is None else x * (keep.view(x.shape) * self.scale).to(x.dtype)

    def keep(self, width: int, device: torch.device) -> torch.Tensor | None:
        """Bool [tokens of the learner, width], False where an element is dropped.

        None where nothing is: in eval mode, and outside of a batch.
        """
        batch = self._layout.batch
        if not self.training or batch is None or not self._threshold:
            return None
        part = next(part for part in batch.parts if part.member == self._member)
        drawn = np.concatenate([self._draw(part, row, width) for row in range(len(part.lengths))])
        return torch.from_numpy(drawn >= self._threshold).view(-1, width).to(device)

    def _draw(self, part: Part, row: int, width: int) -> np.ndarray:
        """uint16 [tokens of the row · width], uniform (Philox, Salmon et al. 2011)."""
        told = f"{self._seed}/{self._name}/{part.step}/{part.row_ids[row]}"
        key = int.from_bytes(hashlib.blake2b(told.encode(), digest_size=16).digest(), "little")
        count = part.lengths[row] * width
        raw = np.random.Philox(key=key).random_raw((count + 3) // 4)
        return raw.view(np.uint16)[:count]
