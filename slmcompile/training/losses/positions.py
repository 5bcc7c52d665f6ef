"""Which rows the trained positions of a batch are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slmcompile.data.store import IGNORED, Row


@dataclass(frozen=True)
class Positions:
    """Of each trained position, whose it is.

    Attributes:
        row: int64 [positions], its row's number, from 0 in the micro-batch.
        place: int64 [positions], its number among the trained positions of its row, from 0.
        labels: the label of each row of the micro-batch; empty of a row that is not of the task.
    """

    row: torch.Tensor
    place: torch.Tensor
    labels: tuple[str, ...]

    def __getitem__(self, part: slice) -> Positions:
        """Those of a run of positions."""
        return Positions(self.row[part], self.place[part], self.labels)


def trained_tokens(row: Row) -> int:
    """Its tokens whose prediction is trained."""
    return sum(label != IGNORED for label in row.labels[1:])


def label_of_row(row: Row) -> str:
    """Its label; empty of one that asks nothing, or is there against forgetting."""
    return row.label if row.asked else ""


def positions_of(rows: Sequence[Row], device: torch.device) -> Positions:
    """The trained positions of a micro-batch, in the order in which ``collate`` lays them out."""
    counts = [trained_tokens(row) for row in rows]
    owners = [number for number, count in enumerate(counts) for _ in range(count)]
    places = [place for count in counts for place in range(count)]
    return Positions(
        torch.tensor(owners, dtype=torch.int64, device=device),
        torch.tensor(places, dtype=torch.int64, device=device),
        tuple(map(label_of_row, rows)),
    )
