"""An exported folder for a browser, answered by the CPU's provider: its very graph, elsewhere."""

from __future__ import annotations

from pathlib import Path

from slmcompile.inference import onnx_model
from slmcompile.inference.onnx_model import OnnxModel


def load(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,
    adapter: Path | None = None,
) -> OnnxModel:
    """Opens it as ``onnx_model.load`` does, and says that no browser runs it."""
    model = onnx_model.load(folder, threads, spinning=spinning, adapter=adapter)
    model.ran = "emulated"
    return model
