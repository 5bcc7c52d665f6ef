"""What training may minimise: declarations alone. Their programs are in ``training/losses/``."""

from __future__ import annotations

from slmcompile.losses.loss import Loss
from slmcompile.registry.table import Table

LOSSES: Table[Loss] = Table("loss", __name__, lambda loss: (loss.place, loss.name))
