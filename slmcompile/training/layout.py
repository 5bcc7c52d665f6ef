"""Which rows a model is looking at, for the modules that treat rows or learners apart.

Attention goes row by row, a low-rank layer learner by learner, dropout by both; between them the
modelling code of transformers passes one flat sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slmcompile.training.batches import Batch


class Layout:
    """The batch that is in the model, from its forward pass to the end of its backward pass.

    Attributes:
        batch: None where the model is called as its library has it.
        eager: whether the family attends by its own function.
    """

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.eager = False

    @contextmanager
    def of(self, batch: Batch) -> Iterator[None]:
        """For a block, in which activations may be computed again for backward."""
        self.batch = batch
        try:
            yield
        finally:
            self.batch = None
