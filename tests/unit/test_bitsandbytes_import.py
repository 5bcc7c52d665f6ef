"""Importing bitsandbytes fetches nothing and prints nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.projects import REPOSITORY

# As bitsandbytes 0.50 on a CPU with AVX-512 BF16.
STAND_IN = """
import logging
try:
    from kernels import get_kernel
    get_kernel("kernels-community/quantization-bitsandbytes", version=1)
except Exception as error:
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load: %s", error)
"""
KERNELS = """
from pathlib import Path
def get_kernel(name, version):
    Path(__file__).with_name("canary").touch()
"""
CHILD = """
from slmcompile.machine.bitsandbytes_import import import_bitsandbytes
import_bitsandbytes()
import_bitsandbytes()
import sys
assert "bitsandbytes" in sys.modules
import kernels
print(kernels.get_kernel.__name__)
"""


def test_native_code_is_not_fetched_when_bitsandbytes_is_imported(tmp_path: Path) -> None:
    (tmp_path / "bitsandbytes.py").write_text(STAND_IN, encoding="utf-8")
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=os.environ | {"PYTHONPATH": path},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout == "get_kernel\n"  # other users of the package find it as it was
    assert not (tmp_path / "canary").exists()
