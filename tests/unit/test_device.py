"""What one process may use of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from slmcompile.machine.device import detect
print(detect(Path(".")).memory_bytes)
"""


@pytest.mark.parametrize("flag", ["v", "d"])
def test_memory_is_no_more_than_the_process_is_limited_to(flag: str) -> None:
    words = ["sh", "-c", f'ulimit -{flag} 2000000; exec "$@"', "sh", sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, text=True, capture_output=True, check=True)
    assert int(done.stdout) == 2_000_000 * 1024
