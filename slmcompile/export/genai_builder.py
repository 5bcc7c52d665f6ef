"""Calls onnxruntime-genai's model builder; all of its quirks (0.18) are dealt with here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.console.quiet import quiet
from slmcompile.export.genai_mended import mended
from slmcompile.export.genai_mixed import mixed
from slmcompile.export.genai_streamed import streamed
from slmcompile.export.mixture import Mixture
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.keys import Target


def build(
    target: Target,
    saved: Path,
    out: Path,
    cache: Path,
    model: Any = None,
    options: Sequence[str] = (),
    mixture: Mixture | None = None,
    *,
    spends: bool = False,
) -> None:
    """Writes ``model.onnx``, its data and ``genai_config.json`` into ``out``.

    The builder prints a line per layer, logs one per node and needs a cache folder even for a
    local model; ``create_model`` takes options that only ``parse_extra_options`` can prepare.

    Args:
        target: what for.
        saved: folder of the model, with its tokenizer.
        out: an empty folder.
        cache: a folder that need not be there.
        model: the open model, whose weights need not be saved then.
        options: of the builder beside the target's, as ``KEY=VALUE``.
        mixture: how wide each matrix is, of a target that is probed.
        spends: whether the open model's weights may go as they are quantised.

    Raises:
        StageFailedError: an architecture that the builder does not know.
    """
    with quiet():
        from onnxruntime_genai.models import builder

        precision = "int4" if mixture else target.precision
        places = ("", str(saved), str(out), precision, target.execution_provider, str(cache))
        try:
            asked = [*extra_options(target, mixture), *options]
            parsed = builder.parse_extra_options(*places, asked)
            with mended(builder), mixed(builder, mixture), streamed(builder, model, spends=spends):
                builder.create_model(*places, **parsed)
        except NotImplementedError as error:
            raise StageFailedError(
                f"onnxruntime-genai cannot export this architecture: {error}",
                "use a Llama, Mistral, Phi, Qwen, Gemma, SmolLM3, Granite or OLMo model",
            ) from error


def extra_options(target: Target, mixture: Mixture | None = None) -> list[str]:
    """The builder's ``KEY=VALUE`` options for a target.

    Remote code is off. The quantisation keys apply to int8 as they do to int4, except that only
    ``default`` makes all weights int8.
    """
    # A cache as short as the window cannot be had: onnxruntime refuses a sequence that is shorter,
    # so every short prompt to a model with windows (Gemma 2 and 3, Mistral).
    # Norms of queries and keys in the attention's own node are for CUDA's and WebGPU's kernels
    # alone: the CPU's could not run the graph, so nothing would measure it (Qwen 3, Gemma 3).
    options = [
        "hf_remote=false",
        "hf_token=false",
        "windowed_kv_cache=false",
        "fuse_qk_norm_gqa=false",
    ]
    if mixture:
        return [
            *options,
            f"algo_config={mixture.algorithm}",
            f"block_size={mixture.block}",
            "is_symmetric=false",
        ]
    if isinstance(target, CpuTarget) and target.precision == "int4":
        algorithm = target.int4_algo_config
        if algorithm == "default" and not target.int4_is_symmetric:
            # Both round to nearest, but with tied embeddings and asymmetric weights "default"
            # leaves a graph of mismatched types, which onnxruntime refuses to load.
            algorithm = "rtn"
        options += [
            f"algo_config={algorithm}",
            f"block_size={target.int4_block_size}",
            f"is_symmetric={str(target.int4_is_symmetric).lower()}",
        ]
    return options
