"""A project with a loss of its own: code that tests train with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.losses.python import PythonLoss

FILE = "losses/mine.py"
MINE = '''\
"""Cross entropy of which the first token of an answer counts more."""

import torch
from torch.nn import functional


class FirstCounts(torch.nn.Module):
    def __init__(self, factor=3.0):
        super().__init__()
        self.factor = factor

    def forward(self, logits, targets, positions):
        losses = functional.cross_entropy(logits, targets, reduction="none")
        return torch.where(positions.place == 0, self.factor * losses, losses)


class Together:
    """The mean over the batch is taken off, so that every loss depends on all logits."""

    def __call__(self, logits, targets, positions):
        losses = functional.cross_entropy(logits, targets, reduction="none")
        of_label = torch.tensor([len(label) for label in positions.labels])[positions.row]
        return (losses - 0.5 * losses.mean()) ** 2 * of_label
'''


def write_loss(project: Path, text: str = MINE) -> Path:
    """Puts it into a project; returns the project."""
    path = project / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return project


def python(name: str, sees: str = "positions", **options: Any) -> PythonLoss:
    """The section that names one of its losses."""
    values = {"type": "python", "file": FILE, "name": name, "options": options, "sees": sees}
    return PythonLoss.model_validate(values)
