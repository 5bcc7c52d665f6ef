"""Keeps third-party chatter (progress bars, prints, INFO logs) away from the user.

onnxruntime's quantizer also calls ``logging.basicConfig`` on import (1.31), which would turn on
INFO lines of every library; the root logger is therefore put back as it was.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet() -> Iterator[None]:
    """Swallows what libraries print inside the block; exceptions pass through unchanged."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
