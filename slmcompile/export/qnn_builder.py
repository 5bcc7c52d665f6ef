"""Builds a folder for Qualcomm's neural processor: graphs of integers, and what they compile to.

The compiler is the vendor's, as onnxruntime's QNN provider calls it, in a process of its own: what
it writes depends on what its process has compiled before, and it takes memory that it keeps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError, MissingError, StageFailedError
from slmcompile.data.store import Row
from slmcompile.files.artifact import saying_what_is_missing, write_json
from slmcompile.inference.qnn_runtime import PROVIDER
from slmcompile.machine.process import python_module
from slmcompile.plans.installed import versions
from slmcompile.providers.qnn import FACTS, GRAPHS, ROUNDED, QnnTarget

_LEAVE = "leave out the target for qnn"
_APART = 0.1
"""Nats by which the simulator's next tokens may differ from the graph's on the CPU: what rounding
in another order makes of 30 layers is a tenth of it."""


def build(
    target: QnnTarget, model: Path, out: Path, _cache: Path, rows: Sequence[Row]
) -> Mapping[str, Any]:
    """Writes both graphs as they are compiled, those they were compiled from, and ``qnn.json``.

    Args:
        target: shapes, and for which generation of the processor.
        model: a saved model in fp32.
        out: an empty folder.
        rows: of training, by which the ranges of values are found.

    Returns:
        facts for the manifest, under ``qnn``: ``htp_arch``, ``sdk``, ``nodes`` by provider and
        operator of each graph, and what the ``simulator`` found.

    Raises:
        MissingError: a package that builds it is not installed, or the disk is full (exit 69).
        StageFailedError: the processor cannot take an operator, or its simulator computes something
            else than the graph (exit 1).
    """
    versions("onnx", "onnxruntime-qnn")
    chosen = [row.input_ids for row in rows if row.input_ids]
    if not chosen:
        raise BadDataError("export: no rows to find the ranges of values with", "add train rows")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    with saying_what_is_missing(out):
        scale = _write_graphs(target, config, model, out / ROUNDED, chosen)
        write_json(out / FACTS, _facts(target, config, model, scale))
    compared = [ids[: target.context_length] for ids in chosen[: target.simulated_rows]]
    found = _compile(target, out, compared)
    _require_all_there(target, found["nodes"])
    _require_same(found["simulator"])
    return {"qnn": {"htp_arch": target.htp_arch, **found}}


def _write_graphs(
    target: QnnTarget,
    config: Mapping[str, Any],
    model: Path,
    out: Path,
    rows: Sequence[Sequence[int]],
) -> tuple[Any, Any]:
    """Writes weights and graphs; the scale and the zero of the logits."""
    import onnx

    from slmcompile.export.qnn_layers import Layers, SavedWeights, shape_of
    from slmcompile.export.qnn_net import Net, WeightFile
    from slmcompile.export.qnn_ranges import ranges_of, shape_for_ranges

    out.mkdir()
    weights, file = SavedWeights(model), WeightFile(out)
    at_once = dict(zip(GRAPHS, (target.sequence_length, 1), strict=True))
    shapes = {name: shape_of(config, target.context_length, new) for name, new in at_once.items()}
    exact, shape = out / "exact.onnx", shape_for_ranges(shapes["decode"])
    net = Net(file, None)
    Layers(net, weights, config, shape).write()
    file.close()
    onnx.save(net.model(), exact)
    ranges = ranges_of(exact, shape, rows)
    exact.unlink()
    for name, shape in shapes.items():
        net = Net(file, ranges)
        Layers(net, weights, config, shape).write()
        onnx.save(net.model(), out / f"{name}.onnx")
    return net.scale("logits")


def _facts(
    target: QnnTarget, config: Mapping[str, Any], model: Path, scale: tuple[Any, Any]
) -> dict[str, Any]:
    """``qnn.json``: what a program needs to know that runs the graphs."""
    heads = config["num_attention_heads"]
    settings = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    stops = settings["eos_token_id"]
    return {
        "format_version": "1.0",
        "layers": config["num_hidden_layers"],
        "key_heads": config.get("num_key_value_heads") or heads,
        "head": config.get("head_dim") or config["hidden_size"] // heads,
        "vocab_size": config["vocab_size"],
        "context_length": target.context_length,
        "sequence_length": target.sequence_length,
        "logits_scale": float(scale[0]),
        "logits_zero": int(scale[1]),
        "htp_arch": target.htp_arch,
        "answered_by": target.answered_by,
        "stops": [stops] if isinstance(stops, int) else list(stops),
    }


def _compile(target: QnnTarget, out: Path, compared: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Compiles in a process that works in ``out``, as paths are part of what is written."""
    with tempfile.TemporaryDirectory(prefix="slmcompile-qnn-") as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        write_json(asked, {"htp_arch": target.htp_arch, "rows": list(compared)})
        ended = subprocess.run(
            python_module("slmcompile.export.qnn_child", str(asked), str(answer)),
            cwd=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(_packages())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if ended.returncode == 0:
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            return found
    said = [line for line in ended.stderr.strip().splitlines() if line.strip()]
    reason = said[-1] if said else f"it ended with {ended.returncode}"
    if ended.returncode == -9:
        raise MissingError("the compiler for the neural processor was ended", "free some memory")
    raise StageFailedError(f"the neural processor's compiler refuses the model: {reason}", _LEAVE)


def _packages() -> list[str]:
    """Where this process finds modules, wherever the other one works."""
    return [str(Path(path).resolve()) for path in sys.path if path]


def _require_all_there(target: QnnTarget, nodes: Mapping[str, Any]) -> None:
    """Refuses a graph of which a part would run elsewhere, and be slow without a word."""
    for graph, by_provider in nodes.items():
        for provider, counts in by_provider.items():
            if provider != PROVIDER:
                listed = ", ".join(f"{op} ({count})" for op, count in sorted(counts.items()))
                raise StageFailedError(
                    f"HTP v{target.htp_arch} does not take all of the graph {graph}: {provider}"
                    f" would run {listed}",
                    f"choose another htp_arch, or {_LEAVE}",
                )


def _require_same(found: Mapping[str, float | int] | None) -> None:
    if found and found["mean_kl"] > _APART:
        raise StageFailedError(
            "the simulator of the neural processor differs from the graph by"
            f" {found['mean_kl']:.3g} nats a token",
            f"report it with the model's architecture, or {_LEAVE}",
        )
