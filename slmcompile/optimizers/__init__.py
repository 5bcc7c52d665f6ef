"""The optimizers that exist: one module each, declarations alone.

Their programs are in ``training/optimizers.py``.
"""

from __future__ import annotations

from slmcompile.optimizers.optimizer import Optimizer
from slmcompile.registry.table import Table

OPTIMIZERS: Table[Optimizer] = Table("optimizer", __name__)
