"""Builds a folder that OpenVINO opens: graph, weights, and tokenizer as graphs of their own.

Weights are quantised by nncf, OpenVINO's own: round to nearest, 8 bits by the row, 4 bits by groups
of a row with embedding and head in 8.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from slmcompile.console.errors import MissingError, StageFailedError
from slmcompile.console.quiet import quiet
from slmcompile.export.openvino_tokenizer import graphs
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.inference.openvino_runtime import openvino
from slmcompile.providers.openvino import MODEL, TOKENIZER, OpenVinoTarget

_COUNTED = re.compile(r"[A-Za-z]\w*_\d+(\.\d+)?")
"""Names that openvino makes up of a type and how many it has made in this process."""

_UNKNOWN = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the converters raise of a model, or a tokenizer, that they do not know."""


def build(
    target: OpenVinoTarget,
    saved: Path,
    out: Path,
    _cache: Path,
    model: Any = None,
    *,
    spends: bool = False,  # noqa: ARG001 - the graph is computed with the weights that it shares
) -> None:
    """Writes graph, weights, the tokenizer's graphs, configuration and generation settings.

    Args:
        target: precision, and how it is quantised.
        saved: folder of the model in fp32, with its tokenizer.
        out: an empty folder.
        model: the open model, whose weights need not be saved then.
        spends: whether its weights may go; none do before the graph is written.

    Raises:
        MissingError: a package that builds it is not installed, or the disk is full (exit 69).
        StageFailedError: openvino cannot have the architecture, or its tokenizer (exit 1).
    """
    ov = openvino()
    try:
        with quiet(), saying_what_is_missing(out):
            graph = _graph(saved, model)
            if target.precision in {"fp32", "fp16"}:
                # As the model computes: the runtime would round keys and values to 8 bits.
                graph.set_rt_info("f32", ["runtime_options", "KV_CACHE_PRECISION"])
            else:
                graph = _quantised(graph, target)
            _write(ov, graph, out / MODEL, halved=target.precision == "fp16")
            for name, each in zip(TOKENIZER, graphs(saved), strict=True):
                _write(ov, each, out / name)
            for name in ("config.json", "generation_config.json"):
                shutil.copyfile(saved / name, out / name)
    except ImportError as error:
        raise MissingError(
            f"openvino cannot build it: {error}", "pip install 'slmcompile[openvino]'"
        ) from error
    except _UNKNOWN as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise StageFailedError(
            f"openvino cannot export this model: {reason}", "leave out the target for openvino"
        ) from error


def _graph(saved: Path, model: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from slmcompile.export.openvino_trace import stateful

    if model is None:
        auto: Any = AutoModelForCausalLM
        model = auto.from_pretrained(saved, dtype=torch.float32, local_files_only=True)
    return stateful(model.eval())


def _quantised(graph: Any, target: OpenVinoTarget) -> Any:
    import nncf

    modes = nncf.CompressWeightsMode
    if target.precision == "int8":
        return nncf.compress_weights(graph, mode=modes.INT8_SYM)
    mode = modes.INT4_SYM if target.int4_is_symmetric else modes.INT4_ASYM
    try:
        return nncf.compress_weights(graph, mode=mode, group_size=target.int4_group_size)
    except nncf.errors.InvalidGroupSizeError as error:  # no RuntimeError, as its others are
        raise NotImplementedError(
            f"groups of {target.int4_group_size} do not divide the rows of every matrix"
        ) from error


def _write(ov: Any, graph: Any, path: Path, *, halved: bool = False) -> None:
    """Saves a graph, the same bytes of the same model whatever the process has made before it."""
    graph.set_friendly_name("model")
    for place, op in enumerate(graph.get_ordered_ops()):
        if _COUNTED.fullmatch(op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}_{place}")
        for tensor in (port.get_tensor() for port in op.outputs()):
            names = tensor.get_names()
            tensor.set_names({name for name in names if not _COUNTED.fullmatch(name)})
    ov.save_model(graph, path, compress_to_fp16=halved)
