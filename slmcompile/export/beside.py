"""Adapters in floating point beside a base that is there already, in one folder for a target.

The base's graph and weights stay as they are: each low-rank product is added behind the product
that it is beside. Several adapters are inputs of the graph, of which a program chooses one at run
time and without which it is the base, to the bit. A plain recipe's one adapter is what these
inputs are by default, so that the folder answers as trained whoever opens it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from slmcompile.console.errors import BadDataError, StageFailedError
from slmcompile.console.progress import Prefixed, Progress
from slmcompile.data.store import Row
from slmcompile.export.adapter_inputs import graft
from slmcompile.export.built import sizes
from slmcompile.export.parity import Reference, proved
from slmcompile.files.artifact import MANIFEST
from slmcompile.inference import onnx_model
from slmcompile.inference.exported import open_exported
from slmcompile.inference.onnx_adapters import chosen
from slmcompile.models.adapter_file import write_adapter_file
from slmcompile.models.bottleneck import adapters_of
from slmcompile.models.low_rank import read_low_rank
from slmcompile.models.merge import load_merged, merges
from slmcompile.plans.artifacts import adapter_file, prompt_file
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.registry.table import program


@dataclass(frozen=True)
class Standing:
    """One adapter of a folder.

    Attributes:
        name: empty in a plain recipe.
        trained: its folder.
        prompt_file: JSON that says how a prompt is rendered.
        rows: what torch and ONNX are compared on; at least one.
    """

    name: str
    trained: Path
    prompt_file: Path
    rows: Sequence[Row]


def export_beside(
    target: Target,
    base: Path,
    over: Path | None,
    quantized: Path,
    standing: Sequence[Standing],
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Writes into ``out`` a folder that ``onnxruntime_genai.Model`` opens, and proves it right.

    Args:
        target: execution provider and precision.
        base: base-model folder.
        over: the ONNX base whose weights were trained over; None for the base's own.
        quantized: the target's ONNX base.
        standing: the one adapter of a plain recipe, or those of a group.
        out: an empty folder.
        progress: told each step.

    Returns:
        facts for the manifest: precision, execution_provider, ``adapters`` (inputs of the graph, or
        nodes), size_bytes, weights_bytes and ``parity`` (see
        ``slmcompile.export.parity.measure``), of several adapters by name in ``members``, there
        with the task, the prompt's template and the two files of each, whose hashes the manifest
        has; free of time and place.

    Raises:
        CorruptError: an adapter's folder is damaged (exit 74).
        StageFailedError: the graph has no place for an adapter, fp32 differs from torch, or the
            graph without adapter from the base (exit 1).
    """
    for each in standing:
        if not each.rows:
            raise BadDataError(
                "export: no rows to compare torch and ONNX on", "add validation rows"
            )
    model: Any = load_merged(base, standing[0].trained, over)
    form = "inputs" if merges(standing[0].trained) else "nodes"
    if form == "inputs":
        _as_inputs(model, quantized, standing, out, progress)
    else:
        progress.say("putting the adapter into the base's graph in fp32")
        insert = program(PROVIDERS[target.execution_provider].inserter)
        insert(quantized, adapters_of(model), out)
    # That of the base's folder came along with its other files, and is not of this one.
    (out / MANIFEST).unlink(missing_ok=True)
    for each in standing:
        _place(out / prompt_file(each.name))
        shutil.copyfile(each.prompt_file, out / prompt_file(each.name))
    found = {}
    for each in standing:
        model = model or load_merged(base, each.trained, over)
        told = Prefixed(progress, each.name) if each.name else progress
        reference, model = Reference(model, each.rows), None  # one at a time is in memory
        asked = chosen(out, each.name)
        exported = open_exported(target.execution_provider, out, spinning=False, adapter=asked)
        figures = proved(target, reference, exported, told)
        found[each.name] = {"parity": figures}
    named = {each.name: {**_served(each), **found[each.name]} for each in standing}
    return {
        "execution_provider": target.execution_provider,
        "precision": target.precision,
        "adapters": form,
        **sizes(out),
        **found.get("", {"members": named}),
    }


def _served(each: Standing) -> dict[str, Any]:
    """What an adapter of several is for, and where in the folder it and its prompt lie."""
    prompt = json.loads(each.prompt_file.read_text(encoding="utf-8"))
    return {
        "task": prompt["task"],
        "template": prompt["template"],
        "adapter": adapter_file(each.name),
        "prompt": prompt_file(each.name),
    }


def _as_inputs(
    model: Any, quantized: Path, standing: Sequence[Standing], out: Path, progress: Progress
) -> None:
    """The base's graph with places for all adapters, and the adapters."""
    progress.say("putting adapters beside the base's products in fp32")
    linears = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    shapes = {name: (each.out_features, each.in_features) for name, each in linears.items()}
    adapters = {each.name: read_low_rank(each.trained) for each in standing}
    adapted = {module for adapter in adapters.values() for module in adapter}
    layout = graft(quantized, shapes, adapted, out, default=adapters.get(""))
    if "" in adapters:
        return
    for name, adapter in adapters.items():
        write_adapter_file(adapter, layout, _place(out / adapter_file(name)))
    _require_base(quantized, out, standing[0].rows[:1])


def _place(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return path


def _require_base(quantized: Path, out: Path, rows: Sequence[Row]) -> None:
    """That without an adapter the graph is the base, to the bit."""
    ids = [row.input_ids for row in rows]
    before, after = (onnx_model.load(folder, 1).logits(ids) for folder in (quantized, out))
    if not np.array_equal(before, after):
        raise StageFailedError(
            "without an adapter the graph gives other logits than the base",
            "report it with the model's architecture",
        )
