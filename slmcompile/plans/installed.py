"""Versions of installed packages, as specs hold them."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version

from slmcompile.console.errors import MissingError

_EXTRAS = {
    "nncf": "openvino",
    "onnxruntime-qnn": "qnn",
    "openvino": "openvino",
    "openvino-genai": "openvino",
    "openvino-tokenizers": "openvino",
    "xllamacpp": "gguf",
}
"""Packages that no plain installation brings, and the extra that does."""

_VERSION = re.compile(r"^Version: *(\S+) *$", re.MULTILINE)


def versions(*names: str) -> dict[str, str]:
    """Version of each package, without its local part.

    Raises:
        MissingError: it is not installed (exit 69).
    """
    installed = _last_installed()
    return {name: _version(name, installed) for name in names}


def _last_installed() -> tuple[int, ...]:
    """When something was last installed or removed: a package's folder is named by its version."""
    found: list[int] = []
    for folder in sys.path:
        with suppress(OSError):
            # Not by a Path, which takes ten times as long; every stage of every recipe asks.
            found.append(os.stat(folder or ".").st_mtime_ns)  # noqa: PTH116
    return tuple(found)


@lru_cache(maxsize=256)
def _version(name: str, _installed: tuple[int, ...]) -> str:
    try:
        # Not `version()`, which parses the whole of METADATA as an e-mail with all its long text.
        found = _VERSION.search(distribution(name).read_text("METADATA") or "")
        return (found[1] if found else version(name)).split("+")[0]
    except PackageNotFoundError as error:
        extra = _EXTRAS.get(name)
        hint = (
            f"pip install 'slmcompile[{extra}]'"
            if extra
            else "install slmcompile with its lock file"
        )
        raise MissingError(f"the package {name} is not installed", hint) from error
