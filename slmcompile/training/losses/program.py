"""What a loss is at work, and what it is given: trained positions before the language-model head.

The head over a vocabulary of tens of thousands is the largest product of a small model, so a loss
does not get logits: it asks for them, all at once or a chunk of positions at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from slmcompile.data.store import Row
from slmcompile.training.losses.positions import Positions


class Losses(NamedTuple):
    """What a loss makes of the trained positions of a micro-batch.

    Attributes:
        minimised: [positions], with a gradient; their sum over an effective batch, by the number
            of its trained tokens, is what goes backward.
        cross_entropy: nats [positions], without one: what compares with other losses.
    """

    minimised: torch.Tensor
    cross_entropy: torch.Tensor


OfChunk = Callable[[torch.Tensor, slice, bool], tuple[torch.Tensor, torch.Tensor | None]]
"""``(logits, part, wanted) -> (losses, slope)``, for positions whose losses have nothing to do with
one another: logits [chunk, vocabulary] in fp32 (fp64 of a model in that), which may be overwritten;
the chunk's place among the positions; whether its slope is wanted. Losses are [chunk], the slope is
that of each loss by its own logits, [chunk, vocabulary]."""


class Trained(Protocol):
    """The trained positions of one learner's micro-batch.

    Attributes:
        targets: int64 [positions], the tokens to predict.
        positions: whose they are.
    """

    @property
    def targets(self) -> torch.Tensor:
        """See above."""

    @property
    def positions(self) -> Positions:
        """See above."""

    def cross_entropy(self) -> torch.Tensor:
        """Nats [positions], with a gradient."""

    def by_chunk(self, of_chunk: OfChunk) -> torch.Tensor:
        """Losses [positions], with a gradient; no more logits than a chunk's are held at once."""

    def logits(self) -> torch.Tensor:
        """All at once, [positions, vocabulary] in fp32 or fp64, with a gradient."""


class LossProgram(Protocol):
    """A loss of one learner.

    Attributes:
        plain: whether it is cross entropy and nothing else.
    """

    plain: bool

    def __call__(self, trained: Trained) -> Losses:
        """Of a micro-batch."""


OpenedLoss = Callable[[Any, Sequence[Row], Path], LossProgram]
"""A loss by its keys, the rows of the train split, and the project's folder, where its code lies.

Raises:
    BadDataError: the keys name what no row has (exit 65).
    StageFailedError: the project's code cannot be executed (exit 1).
"""
