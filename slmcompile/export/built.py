"""What the builder makes of a model that is open: the folder of a target, before anything else."""

from __future__ import annotations

import copy
import gc
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.quiet import quiet
from slmcompile.data.store import Row
from slmcompile.export.mixture import Mixture
from slmcompile.files.artifact import write_json
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.registry.table import program


def build_plain(
    target: Target,
    model: Any,
    base: Path,
    out: Path,
    scratch: Path,
    weights: Mapping[str, Any] | None = None,
    calibration: Sequence[Row] = (),
    mixture: Mixture | None = None,
    *,
    spends: bool = False,
) -> Mapping[str, Any]:
    """Writes the builder's folder of a model, or of these weights of it, into ``out``.

    Args:
        target: execution provider and precision.
        model: a transformers model in fp32.
        base: base-model folder, for the tokenizer.
        out: an empty folder.
        scratch: an existing folder; what is written there is removed.
        weights: by the names that the builder knows; None for all of the model's.
        calibration: rows of training, for a builder that takes the ranges of values from them.
        mixture: how wide each matrix is, of a target that is probed.
        spends: whether weights of the model may go as they are written; it is of no use then.

    Returns:
        what the builder has to say for the manifest.
    """
    plain, cache = scratch / "plain", scratch / "cache"
    provider = PROVIDERS[target.execution_provider]
    build = program(provider.builder)
    chosen = {"mixture": mixture} if mixture else {}
    facts: Mapping[str, Any] | None
    if provider.builds_open and weights is None:
        _save_config(model, plain)
        _save_beside(base, plain)
        facts = build(target, plain, out, cache, model=model, spends=spends, **chosen)
        gc.collect()  # what a graph's circles hold of the weights
    else:
        with quiet():
            model.save_pretrained(plain, state_dict=weights)
        _save_beside(base, plain)
        also = [calibration] if provider.calibration_rows(target) else []
        facts = build(target, plain, out, cache, *also, **chosen)
    shutil.rmtree(plain)
    shutil.rmtree(cache, ignore_errors=True)
    return facts or {}


def write_tokenizer(target: Target, base: Path, out: Path) -> None:
    """Puts the base model's tokenizer into ``out``, as the target's runtime reads it."""
    write = PROVIDERS[target.execution_provider].tokenizer_writer
    if write:
        program(write)(base, out)


def finish(target: Target, base: Path, out: Path) -> None:
    """Writes what the target's runtime wants beside a model whose prompt is told."""
    write = PROVIDERS[target.execution_provider].finisher
    if write:
        program(write)(base, out)


_WEIGHTS = (".onnx", ".safetensors", ".gguf", "_qnn.bin", "openvino_model.bin", "weights.data")


def sizes(out: Path) -> dict[str, int]:
    """Bytes of a finished folder, and of the weights in it."""
    found = {path: path.stat().st_size for path in out.rglob("*") if path.is_file()}
    weights = sum(size for path, size in found.items() if any(s in path.name for s in _WEIGHTS))
    return {"size_bytes": sum(found.values()), "weights_bytes": weights}


def _save_config(model: Any, folder: Path) -> None:
    """What ``save_pretrained`` writes, without the weights."""
    config = copy.deepcopy(model.config)
    config.architectures, config.dtype = [type(model).__name__], str(model.dtype).split(".")[1]
    config.save_pretrained(folder)


def _save_beside(base: Path, folder: Path) -> None:
    """What the builder wants to read beside the model: a tokenizer, and which tokens end a text.

    Of the base's generation settings only token ids stay: a sampling temperature or a repetition
    penalty in ``genai_config.json`` would make the shipped model answer otherwise than measured.
    """
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name.startswith(("tokenizer", "special", "chat_template")):
            shutil.copyfile(path, folder / path.name)
    generation = json.loads((base / "generation_config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in generation.items() if key.endswith("_token_id")}
    write_json(folder / "generation_config.json", kept)
