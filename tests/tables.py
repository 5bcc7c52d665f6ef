"""Tables as they might be in another version."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slmcompile.plans.kinds import KINDS
from slmcompile.registry.table import Table


def raise_epoch(patch: pytest.MonkeyPatch, name: str, table: Table[Any] = KINDS) -> int:
    """Lets a kind of stage have changed what it writes; returns the epoch that it had."""
    entries, before = table._loaded(), table[name]
    patch.setitem(entries, name, replace(before, epoch=before.epoch + 1))
    return int(before.epoch)
