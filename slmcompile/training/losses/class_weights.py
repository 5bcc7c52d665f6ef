"""How much the trained tokens of a row count, by its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import torch

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened
from slmcompile.data.store import Row
from slmcompile.training.losses.positions import Positions, label_of_row, trained_tokens


class ClassWeights:
    """Weights by label, divided by their mean over the trained tokens of the train split.

    By that mean and not by a batch's own: a batch of one label would otherwise count as any other,
    and weights would count for less the smaller batches are.

    Args:
        weights: by label; 1 for every other.
        rows: of the train split.

    Raises:
        BadDataError: a label that none of the rows has (exit 65).
    """

    def __init__(self, weights: Mapping[str, float], rows: Sequence[Row]) -> None:
        self._weights = weights
        labels = {label_of_row(row) for row in rows}
        for label in weights:
            if label not in labels:
                near = get_close_matches(label[:64], sorted(labels)[:1000], n=1)
                raise BadDataError(
                    f"train.loss.class_weights: no row of the train split has the label"
                    f" {shortened(label)!r}",
                    f"did you mean {shortened(near[0])!r}?" if near else "name labels of the data",
                )
        tokens = [trained_tokens(row) for row in rows]
        counted = [self._of(label_of_row(row)) for row in rows]
        whole = sum(weight * count for weight, count in zip(counted, tokens, strict=True))
        self.mean = whole / sum(tokens)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._weights)

    def _of(self, label: str) -> float:
        return self._weights.get(label, 1.0)

    def of(self, positions: Positions, like: torch.Tensor) -> torch.Tensor:
        """What each position counts, [positions] in the dtype and on the device of ``like``."""
        of_rows = [self._of(label) / self.mean for label in positions.labels]
        return torch.tensor(of_rows, dtype=like.dtype, device=like.device)[positions.row]

    def weighed(self, losses: torch.Tensor, positions: Positions) -> torch.Tensor:
        """Losses [positions] by what each counts; as they are where there are no weights."""
        return losses * self.of(positions, losses) if self else losses
