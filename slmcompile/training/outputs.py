"""Where a ``train`` stage puts what it trained, and where the stages behind it find it."""

from __future__ import annotations

from pathlib import Path

ADAPTER = "adapter"
MODEL = "model"


def trained_weights(train_out: Path) -> Path:
    """The adapter or model folder in a ``train`` stage's output."""
    model = train_out / MODEL
    return model if model.is_dir() else train_out / ADAPTER
