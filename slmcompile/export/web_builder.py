"""A folder for onnxruntime-web: the model builder's graph for the CPU, in int8 made over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from slmcompile.export import genai_builder
from slmcompile.export.integer_products import quantise
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.providers.web import WebTarget, as_for_cpu

_AS_A_BROWSER = ("accuracy_level=0",)
"""What comes in stays fp32, as WebAssembly and WebGPU have it whatever a graph allows: a CPU that
quantised it would be measured in the place of a browser."""
_GRAPH = ("model.onnx", "model.onnx.data")


def build(
    target: WebTarget,
    saved: Path,
    out: Path,
    cache: Path,
    model: Any = None,
    *,
    spends: bool = False,
) -> None:
    """Writes ``model.onnx``, its data and ``genai_config.json`` into ``out``.

    Args:
        target: the precision.
        saved: folder of the model, with its tokenizer.
        out: an empty folder.
        cache: a folder for what is removed again.
        model: the open model, whose weights need not be saved then.
        spends: whether its weights may go as they are quantised.

    Raises:
        StageFailedError: an architecture that the builder does not know.
    """
    if target.precision != "int8":
        cpu = as_for_cpu(target)
        genai_builder.build(cpu, saved, out, cache, model, _AS_A_BROWSER, spends=spends)
        return
    whole = out.with_name(f"{out.name}-fp32")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    try:
        genai_builder.build(as_for_cpu(target), saved, whole, cache, model)
        with saying_what_is_missing(out):
            quantise(whole, out)
        for path in sorted(whole.iterdir()):
            if path.is_file() and path.name not in _GRAPH:
                shutil.move(path, out / path.name)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
