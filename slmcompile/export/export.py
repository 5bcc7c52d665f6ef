"""One hardware target: merge or put into the graph, build, check, describe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.console.progress import Progress
from slmcompile.console.quiet import quiet
from slmcompile.data.store import Row
from slmcompile.export.parity import measure, require_fp32, require_tokenizer
from slmcompile.files.artifact import write_json
from slmcompile.inference import onnx_model
from slmcompile.models.bottleneck import adapters_of, own_weights
from slmcompile.models.merge import load_merged, merges
from slmcompile.models.tokenizer_files import write_tokenizer
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.registry.table import program


def export(
    target: Target,
    base: Path,
    trained: Path,
    prompt_file: Path,
    sample_rows: Sequence[Row],
    out: Path,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Writes into ``out`` a folder that ``onnxruntime_genai.Model`` opens, and proves it right.

    Args:
        target: execution provider and precision.
        base: base-model folder.
        trained: adapter folder, or a model folder of which all weights were trained.
        prompt_file: JSON that says how a prompt is rendered; copied beside the model.
        sample_rows: rows that torch and ONNX are compared on; at least one.
        out: an empty folder.
        scratch: an empty folder for intermediate files; emptied afterwards.
        progress: told each step.

    Returns:
        facts for the manifest: precision, execution_provider, size_bytes, weights_bytes and
        ``parity`` (see ``slmcompile.export.parity.measure``), free of time and place.

    Raises:
        StageFailedError: the builder refuses, fp32 differs from torch, or the tokenizer does.
    """
    if not sample_rows:
        raise BadDataError("export: no rows to compare torch and ONNX on", "add validation rows")
    name = f"{target.execution_provider} {target.precision}"
    if merges(trained):
        progress.say("merging the adapter into the base model in fp32")
    model = load_merged(base, trained)
    progress.say(f"building ONNX for {name}")
    _build(target, model, base, out, scratch, progress)
    write_tokenizer(base, out)
    shutil.copyfile(prompt_file, out / "prompt.json")
    exported = onnx_model.load(out, spinning=False)
    require_tokenizer(exported, sample_rows, name)
    progress.begin("parity with torch", len(sample_rows))
    figures = measure(model, exported, sample_rows, progress.step)
    progress.end()
    if target.precision == "fp32":
        require_fp32(figures, name)
    progress.say(
        f"given the references of {figures['rows']} rows, the same next token as torch at"
        f" {figures['top1_agreement']:.1%}"
    )
    sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    return {
        "execution_provider": target.execution_provider,
        "precision": target.precision,
        "size_bytes": sum(sizes.values()),
        "weights_bytes": sum(size for file, size in sizes.items() if ".onnx" in file),
        "parity": figures,
    }


def _build(
    target: Target, model: Any, base: Path, out: Path, scratch: Path, progress: Progress
) -> None:
    """The builder's folder, of all of the model: what did not merge is put into the graph."""
    provider = PROVIDERS[target.execution_provider]
    build, plain, adapters = program(provider.builder), scratch / "plain", adapters_of(model)
    _save(model, base, plain, own_weights(model) if adapters else None)
    if adapters:
        built = scratch / "built"
        built.mkdir()
        build(target, plain, built, scratch / "cache")
        progress.say("putting the adapter into the graph in fp32")
        program(provider.inserter)(built, adapters, out)
        shutil.rmtree(built)
    else:
        build(target, plain, out, scratch / "cache")
    shutil.rmtree(plain)
    shutil.rmtree(scratch / "cache", ignore_errors=True)


def _save(model: Any, base: Path, folder: Path, weights: Mapping[str, Any] | None) -> None:
    """The model, or these weights of it, as the builder wants to read it: with a tokenizer.

    Of the base's generation settings only token ids stay: a sampling temperature or a repetition
    penalty in ``genai_config.json`` would make the shipped model answer otherwise than measured.
    """
    with quiet():
        model.save_pretrained(folder, state_dict=weights)
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name.startswith(("tokenizer", "special", "chat_template")):
            shutil.copyfile(path, folder / path.name)
    generation = json.loads((base / "generation_config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in generation.items() if key.endswith("_token_id")}
    write_json(folder / "generation_config.json", kept)
