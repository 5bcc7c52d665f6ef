"""Experiment tracking: W&B, TensorBoard or nothing, none of which can change a run."""

from __future__ import annotations

from slmcompile.tracking.open import open_tracker
from slmcompile.tracking.protocol import Tracker

__all__ = ["Tracker", "open_tracker"]
