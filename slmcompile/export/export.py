"""One hardware target: merge or put into the graph, build, check, describe."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadDataError
from slmcompile.console.progress import Progress
from slmcompile.data.store import Row
from slmcompile.export.built import build_plain, finish, sizes, write_tokenizer
from slmcompile.export.genai_mixed import require_widths
from slmcompile.export.mixture import Mixture, mixture_of
from slmcompile.export.parity import Reference, proved
from slmcompile.export.probe import linear_shapes
from slmcompile.inference.exported import open_exported
from slmcompile.models.bottleneck import adapters_of, own_weights
from slmcompile.models.merge import is_adapter, load_merged, merges
from slmcompile.providers import PROVIDERS
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.keys import Target
from slmcompile.providers.mixed import groups_of
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
    calibration: Sequence[Row] = (),
    probes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes into ``out`` a folder that the target's runtime opens, and proves it right.

    Args:
        target: execution provider and precision.
        base: base-model folder.
        trained: adapter folder, or a model folder of which all weights were trained.
        prompt_file: JSON that says how a prompt is rendered; copied beside the model.
        sample_rows: rows that torch and ONNX are compared on; at least one.
        out: an empty folder.
        scratch: a folder for intermediate files, which are removed afterwards; made if it is not
            there, and a run that was killed may have left some.
        progress: told each step.
        calibration: rows of training, for a builder that takes the ranges of values from them.
        probes: what was measured of the trained model, of a target that is probed.

    Returns:
        facts for the manifest: precision, execution_provider, ``adapters`` (merged, as nodes of the
        graph, or none), size_bytes, weights_bytes, the builder's own, of a target that is probed
        ``mixture`` (see ``slmcompile.export.mixture.Mixture.described``), and ``parity`` (see
        ``slmcompile.export.parity.measure``), free of time and place.

    Raises:
        StageFailedError: the builder refuses, fp32 differs from torch, or the tokenizer does.
    """
    if not sample_rows:
        raise BadDataError("export: no rows to compare torch and ONNX on", "add validation rows")
    adapters = "merged" if merges(trained) else "nodes" if is_adapter(trained) else "none"
    if adapters == "merged":
        progress.say("merging the adapter into the base model in fp32")
    model = load_merged(base, trained)
    progress.say(f"building for {target.execution_provider} {target.precision}")
    mixture = None
    if probes is not None and isinstance(target, CpuTarget):
        groups = groups_of(linear_shapes(model), target.int4_block_size)
        mixture = mixture_of(target, groups, probes)
        progress.say(f"{mixture.bits_per_weight:.3f} bits a weight, by {mixture.algorithm}")
    reference = Reference(model, sample_rows)
    spends = not reference.needs_model
    facts = _build(target, model, base, out, scratch, progress, calibration, mixture, spends)
    write_tokenizer(target, base, out)
    shutil.copyfile(prompt_file, out / "prompt.json")
    finish(target, base, out)
    del model  # of both one is in memory
    exported = open_exported(target.execution_provider, out, spinning=False)
    return {
        "execution_provider": target.execution_provider,
        "precision": target.precision,
        "adapters": adapters,
        **sizes(out),
        **facts,
        **({"mixture": mixture.described(probes)} if mixture and probes else {}),
        "parity": proved(target, reference, exported, progress),
    }


def _build(
    target: Target,
    model: Any,
    base: Path,
    out: Path,
    scratch: Path,
    progress: Progress,
    calibration: Sequence[Row],
    mixture: Mixture | None,
    spends: bool,
) -> Mapping[str, Any]:
    """The builder's folder, of all of the model: what did not merge is put into the graph."""
    adapters = adapters_of(model)
    if not adapters:
        shapes = linear_shapes(model)
        facts = build_plain(
            target, model, base, out, scratch, calibration=calibration, mixture=mixture,
            spends=spends,
        )  # fmt: skip
        if mixture:
            require_widths(mixture, shapes, out)
        return facts
    built = scratch / "built"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir(parents=True)
    facts = build_plain(target, model, base, built, scratch, own_weights(model), calibration)
    progress.say("putting the adapter into the graph in fp32")
    program(PROVIDERS[target.execution_provider].inserter)(built, adapters, out)
    shutil.rmtree(built)
    return facts
