"""What a program in a container has left is data alone: nothing that a library would execute.

The stages behind it run outside, and open it with PEFT and transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.files.safe_read import read_or_none
from slmcompile.files.strict_json import decoder

_CODE = frozenset(
    {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc", ".so"}
)  # fmt: skip
"""Endings of pickles, which execute what they name, and of programs."""
_CONFIGURATION = "config.json"
_MOST_BYTES = 4 << 20
_ASKS = frozenset(
    # auto_mapping and megatron_config: PEFT 0.21 imports the modules that stand beside them
    {"auto_map", "auto_mapping", "custom_generate", "custom_pipelines", "megatron_config"}
)


def require_data_alone(folder: Path) -> None:
    """That a folder of plain files holds no pickle, no program and no configuration that wants one.

    Raises:
        CorruptError: it does (exit 74).
    """
    for path in sorted(folder.rglob("*")):
        name, wrong = path.relative_to(folder).as_posix(), ""
        if path.suffix.lower() in _CODE and path.is_file():
            wrong = "a file of code, or a pickle"
        elif path.name.endswith(_CONFIGURATION) and path.is_file():
            wrong = _asks(folder, name)
        if wrong:
            mend = "read the code that this stage executes: it writes what no stage does"
            raise CorruptError(f"{folder}: {name}: {wrong}", mend)


def _asks(folder: Path, name: str) -> str:
    """What is wrong with a configuration; empty for nothing."""
    data = read_or_none(folder, name, _MOST_BYTES)
    try:
        found = decoder().decode((data or b"").decode("utf-8"))
        asked = sorted(_ASKS & {key for key, value in _entries(found) if value})
    except (ValueError, RecursionError):
        return "no configuration that can be read"
    return f"{asked[0]} asks for code to be run" if asked else ""


def _entries(found: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values, however deep: of models within models too."""
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
