"""What may be done with rows between their source and the template: declarations alone.

Their programs are in ``data/``.
"""

from __future__ import annotations

from slmcompile.data_steps.step import DataStep
from slmcompile.registry.table import Table

DATA_STEPS: Table[DataStep] = Table("data step", __name__)
