"""Writes safetensors in the hub's layout, rounded once from the merged weights.

The saved model is read file by file, and of a file one tensor at a time is in memory: safetensors'
own writer wants a whole file of them. Knows the format of https://github.com/huggingface/safetensors
(length, header, tensors) and the index beside several files; knows nothing of runtimes.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.files.artifact import saying_what_is_missing, write_json
from slmcompile.providers.hf import HfTarget

_INDEX = "model.safetensors.index.json"
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_STORED = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
_FLOATS = {"F64", "F32", "BF16", "F16"}
_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2}


def build(target: HfTarget, model: Path, out: Path, _cache: Path) -> None:
    """Writes weights, ``config.json`` and ``generation_config.json`` into ``out``.

    Args:
        target: the precision.
        model: a saved model in fp32, whose files of weights are taken where nothing is rounded.
        out: an empty folder.

    Raises:
        StageFailedError: a weight is beyond what 16 bits hold.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    with saying_what_is_missing(out):
        total = 0
        for file in sorted(model.glob("*.safetensors")):
            total += _written(file, out / file.name, target.precision)
            file.unlink(missing_ok=True)
        if (model / _INDEX).is_file():
            index = json.loads((model / _INDEX).read_text(encoding="utf-8"))
            write_json(out / _INDEX, {**index, "metadata": {"total_size": total}})
        write_json(out / "config.json", _of_type(config, _DTYPES[target.precision]))
        shutil.copyfile(model / "generation_config.json", out / "generation_config.json")


def _of_type(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A configuration that says what its weights are, and not where they came from."""
    left = {"torch_dtype", "_name_or_path"}
    found = {key: value for key, value in config.items() if key not in left}
    for key, value in found.items():
        if isinstance(value, dict) and "dtype" in value:
            found[key] = _of_type(value, dtype)
    return {**found, "dtype": dtype}


def _written(source: Path, to: Path, precision: str) -> int:
    """Writes one file in another precision; returns the bytes of its tensors."""
    header = _header(source, precision)
    size = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if precision == "fp32":
        shutil.move(source, to)
        return int(size)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with to.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor in _rounded(source, header, precision):
            stream.write(memoryview(tensor))
    return int(size)


def _header(source: Path, precision: str) -> dict[str, dict[str, Any]]:
    """What the new file will hold, the widest types first, so that each lies on its own size."""
    from safetensors import safe_open

    shapes: dict[str, tuple[str, list[int]]] = {}
    with safe_open(source, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - it is no mapping
            told = opened.get_slice(name)
            dtype = _STORED[precision] if told.get_dtype() in _FLOATS else told.get_dtype()
            shapes[name] = (dtype, told.get_shape())
    header, end = {}, 0
    for name in sorted(shapes, key=lambda name: (-_SIZES.get(shapes[name][0], 1), name)):
        dtype, shape = shapes[name]
        start, end = end, end + _SIZES.get(dtype, 1) * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return header


def _rounded(source: Path, header: Mapping[str, Any], precision: str) -> Iterator[Any]:
    """Bytes of each tensor, in the header's order."""
    import torch
    from safetensors import safe_open

    wanted = getattr(torch, _DTYPES[precision])
    with safe_open(source, "pt") as opened:
        for name in header:
            tensor = opened.get_tensor(name)
            if tensor.is_floating_point():
                tensor = tensor.to(wanted)
                if not torch.isfinite(tensor).all():
                    raise StageFailedError(
                        f"hf {precision}: {name} has weights beyond {torch.finfo(wanted).max:g},"
                        " the largest of this precision",
                        "export in bf16, which reaches as far as fp32",
                    )
            yield tensor.contiguous().flatten().view(torch.uint8).numpy()
