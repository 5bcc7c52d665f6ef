"""Where a ``train`` stage puts what it trained, and where the stages behind it find it."""

from __future__ import annotations

from pathlib import Path

ADAPTER = "adapter"
MODEL = "model"


def trained_weights(train_out: Path) -> Path:
    """The adapter or model folder in a ``train`` stage's output.

    A group's member is given its part of the output, which is its adapter itself.
    """
    below = (train_out / MODEL, train_out / ADAPTER)
    return next((folder for folder in below if folder.is_dir()), train_out)
