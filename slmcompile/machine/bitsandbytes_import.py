"""Imports bitsandbytes so that it neither fetches native code nor prints.

bitsandbytes 0.50 asks for the package ``kernels`` on import and, where that is installed,
downloads compiled code from a hub by a moving version; where it is not, it prints a warning that
recommends it. PEFT imports bitsandbytes wherever it is installed, so this comes before PEFT.
"""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec

_FETCHES = "kernels"


def import_bitsandbytes() -> None:
    """Imports it once, ``kernels`` out of its sight; does nothing where it is not installed."""
    logger = logging.getLogger("bitsandbytes")
    logger.setLevel(logging.ERROR)
    if "bitsandbytes" in sys.modules or find_spec("bitsandbytes") is None:
        return
    before = sys.modules.get(_FETCHES)
    # None makes `import kernels` an ImportError (the import system's own rule).
    sys.modules[_FETCHES] = None  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        if before is None:
            del sys.modules[_FETCHES]
        else:
            sys.modules[_FETCHES] = before
