"""A folder for onnxruntime-web: the model builder's graph for the CPU, in int8 made over."""

from __future__ import annotations

import shutil
from pathlib import Path

from slmcompile.export import genai_builder
from slmcompile.export.integer_products import quantise
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.providers.web import WebTarget, as_for_cpu

_GRAPH = ("model.onnx", "model.onnx.data")


def build(target: WebTarget, model: Path, out: Path, cache: Path) -> None:
    """Writes ``model.onnx``, its data and ``genai_config.json`` into ``out``.

    Args:
        target: the precision.
        model: a saved model in fp32.
        out: an empty folder.
        cache: a folder for what is removed again.

    Raises:
        StageFailedError: an architecture that the builder does not know.
    """
    if target.precision != "int8":
        genai_builder.build(as_for_cpu(target), model, out, cache)
        return
    whole = out.with_name(f"{out.name}-fp32")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    try:
        genai_builder.build(as_for_cpu(target), model, whole, cache)
        with saying_what_is_missing(out):
            quantise(whole, out)
        for path in sorted(whole.iterdir()):
            if path.is_file() and path.name not in _GRAPH:
                shutil.move(path, out / path.name)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
