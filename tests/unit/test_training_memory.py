"""The largest resident size of each phase, apart from the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slmcompile.training import phase_memory
from slmcompile.training.phase_memory import PhaseMemory

MIB = 1 << 20


def touch(mib: int) -> None:
    """Takes memory for a moment; large blocks go back to the system when they are dropped."""
    block = bytearray(mib * MIB)
    block[::4096] = b"x" * len(block[::4096])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="phases are told apart on Linux")
def test_a_small_phase_after_a_large_one_is_small() -> None:
    phases = PhaseMemory()
    phases.note("start")
    with phases.phase("large"):
        touch(192)
    with phases.phase("small"):
        touch(48)
    with phases.phase("large"):
        touch(8)
    found = phases.peaks()
    assert found["large"] - found["start"] > 150 * MIB
    assert 30 * MIB < found["small"] - found["start"] < 100 * MIB
    assert phases.whole() == found["large"]


def test_where_the_system_cannot_tell_phases_apart_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(phase_memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(phase_memory, "_CLEAR_REFS", tmp_path / "no" / "folder")
    phases = PhaseMemory()
    phases.note("start")
    with phases.phase("one"):
        pass
    assert phases.peaks() == {}
    assert phases.whole() > MIB
