"""OpenVINO, imported in one place: where it is not installed that is said, and it tells nobody.

openvino 2026.4 and nncf 3.4 send what they convert, and from which framework, to Google Analytics
unless a file in the home folder forbids it, and leave an id there. Both do without where the
package that sends cannot be imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from slmcompile.console.errors import MissingError

_SENDER = "openvino_telemetry"


def openvino() -> Any:
    """The module ``openvino``.

    Raises:
        MissingError: it is not installed (exit 69).
    """
    return _silent("openvino")


def openvino_genai() -> Any:
    """The module ``openvino_genai``, of which only the tokenizer is used.

    Raises:
        MissingError: it is not installed (exit 69).
    """
    return _silent("openvino_genai")


def _silent(name: str) -> Any:
    # None of a module is what Python's import takes for one that is not there.
    sys.modules.setdefault(_SENDER, None)  # type: ignore[arg-type]
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingError(
            f"{name} cannot be imported: {error}", "pip install 'slmcompile[openvino]'"
        ) from error
