"""The kinds of stages that exist: one module each, declarations and what of a recipe they become.

Their programs are in ``stages/``.
"""

from __future__ import annotations

from slmcompile.plans.kinds.kind import Kind
from slmcompile.registry.table import Table

KINDS: Table[Kind] = Table("stage kind", __name__, lambda kind: (kind.place, kind.name))
"""Every kind, in an order in which stages can be built: each behind those that it reads."""
