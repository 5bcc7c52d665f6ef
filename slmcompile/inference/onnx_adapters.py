"""An adapter that a graph of onnxruntime-genai's takes beside its base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.models.adapter_file import require_fits
from slmcompile.models.adapter_layout import read_layout
from slmcompile.plans.artifacts import adapter_file

_NAME = "adapter"


def chosen(folder: Path, name: str) -> Path | None:
    """One of an export's several adapters by name; None of the one that it has by itself."""
    return folder / adapter_file(name) if name else None


def setter(model: Any, folder: Path, adapter: Path) -> Callable[[Any], None]:
    """What gives a fresh generator the adapter, before it reads anything.

    Keep it as long as a generator that it was called with.

    Args:
        model: ``onnxruntime_genai.Model`` of ``folder``.
        folder: has the graph's layout of adapters.
        adapter: an ``.onnx_adapter`` of that graph.

    Raises:
        BadRecipeError: the graph takes no adapters, or those of another graph (exit 78).
        CorruptError: the adapter cannot be read (exit 74).
    """
    import onnxruntime_genai as og

    # onnxruntime-genai 0.18 takes any readable file and fails at the first token.
    require_fits(read_layout(folder), adapter)
    adapters = og.Adapters(model)
    try:
        adapters.load(str(adapter), _NAME)
    except RuntimeError as error:
        raise CorruptError(
            f"{adapter}: onnxruntime-genai cannot load it: {str(error).splitlines()[0]}",
            "export it again",
        ) from error
    return lambda generator: generator.set_active_adapter(adapters, _NAME)
