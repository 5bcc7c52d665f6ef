"""Tables as they might be in another version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slmcompile.plans.kinds import KINDS


def raise_epoch(patch: pytest.MonkeyPatch, kind: str) -> int:
    """Lets a kind of stage have changed what it writes; returns the epoch that it had."""
    entries, before = KINDS._loaded(), KINDS[kind]
    patch.setitem(entries, kind, replace(before, epoch=before.epoch + 1))
    return before.epoch
