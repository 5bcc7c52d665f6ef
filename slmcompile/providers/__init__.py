"""The hardware targets that exist: one module an execution provider, declarations alone.

Their programs are in ``export/`` and ``inference/``.
"""

from __future__ import annotations

from slmcompile.providers.provider import Provider
from slmcompile.registry.table import Table

PROVIDERS: Table[Provider] = Table("execution provider", __name__)
