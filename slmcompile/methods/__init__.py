"""The train methods that exist: one module each, declarations alone.

Their programs are in ``training/methods/``.
"""

from __future__ import annotations

from slmcompile.methods.method import Method
from slmcompile.registry.table import Table

METHODS: Table[Method] = Table("train method", __name__)
