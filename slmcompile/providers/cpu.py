"""The CPU, by onnxruntime-genai."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from slmcompile.providers import genai
from slmcompile.providers.genai import (
    ARCHITECTURES,
    FAMILIES,
    INSERTER,
    MADE_BY,
    OPENER,
    PACKAGES,
    READ_BACK,
    RUNS_ON,
    WITH_PLACES,
    held,
)
from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.mixed import DEFAULT_BITS, bits_between, of_architecture
from slmcompile.providers.provider import Provider
from slmcompile.shapes.architecture import Architecture

_PACKED = {"int8": 8, "int4": 4}

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "int4-block-128": {"precision": "int4", "int4_block_size": 128},
    "int4": {"precision": "int4"},
    "int4-asymmetric": {
        "precision": "int4",
        "int4_algo_config": "rtn",
        "int4_is_symmetric": False,
    },
    "int4-k-quant": {"precision": "int4", "int4_algo_config": "k_quant"},
    "mixed": {"precision": "mixed"},
    "int4-k-quant-mixed": {"precision": "int4", "int4_algo_config": "k_quant_mixed"},
    "int8": {"precision": "int8"},
    "fp32": {"precision": "fp32"},
}
"""What onnxruntime-genai 0.18's builder makes that another is not better than in size and in
likelihood, as measured on SmolLM2-135M; what is larger than all of it, to be there when they
fail."""


class CpuTarget(Target):
    """A folder for a CPU: weights in fp32, quantised to 8 or 4 bits, or to 4 where they bear it."""

    said_if_other: ClassVar[tuple[str, ...]] = ("bits_per_weight",)

    execution_provider: ProviderName = "cpu"
    precision: Literal["auto", "fp32", "int8", "int4", "mixed"] = Field(
        description="Type of the exported weights; auto chooses by budget. mixed: 4 bits where that"
        " moves the trained model least, as is measured on validation answers, and 8 bits"
        " elsewhere; the embedding is shared with a head that is tied to it."
    )
    int4_algo_config: Literal["default", "rtn", "k_quant", "k_quant_mixed", "k_quant_last"] = Field(
        "default", description="int4 only: quantisation algorithm of the model builder."
    )
    int4_block_size: Literal[16, 32, 64, 128, 256] = Field(
        32,
        description="int4 and mixed: weights of 4 bits that share one scale.",
    )
    int4_is_symmetric: bool = Field(True, description="int4 only: no zero point.")
    bits_per_weight: float = Field(
        DEFAULT_BITS,
        gt=4,
        le=12,
        description="mixed only: most bits of a weight on average, scales and zero points counted:"
        " a file of 100 million weights has at most 75 MB of them at 6.",
    )


def export_bytes(target: CpuTarget, model: Architecture) -> float:
    """Bytes of an ONNX folder's weights, as onnxruntime-genai 0.18 writes them.

    Quantised matrices have an fp32 scale in every block; what is no matrix stays in fp32. In int4
    an embedding that is tied to the head is shared with it, in int8 it lies beside it in fp32.
    """
    if target.precision == "fp32":
        return 4.0 * model.parameters
    if target.precision == "mixed":
        return _mixed_bytes(target, model)
    bits = _PACKED[target.precision] + 32 / target.int4_block_size
    tables = sum(rows * width for rows, width in model.others.values())
    matrices = model.linear_parameters + tables
    beside = 4.0 * max((r * w for r, w in model.others.values()), default=0)
    rest = 4.0 * (model.parameters - matrices)
    return matrices * bits / 8 + rest + (beside if target.precision == "int8" else 0)


def _mixed_bytes(target: CpuTarget, model: Architecture) -> float:
    """At most: as many bits as there may be, and never more than 8 with their scales.

    An embedding of its own lies beside in fp32.
    """
    groups = of_architecture(model, target.int4_block_size)
    rounded = sum(group.weights for group in groups)
    bits = min(target.bits_per_weight, bits_between(groups)[1])
    return rounded * bits / 8 + 4.0 * (model.parameters - rounded)


def built_with(target: CpuTarget, model: Architecture) -> float:
    """Bytes that onnxruntime-genai 0.18's builder holds at once, beside the model."""
    return held(model, 0.0 if target.precision == "fp32" else export_bytes(target, model))


def fault(target: CpuTarget, model: Architecture) -> tuple[str, str] | None:
    """What no graph is made of, cannot be quantised so, or not be made that small."""
    if unbuilt := genai.fault(target, model):
        return unbuilt
    if target.precision == "mixed":
        return _odd_blocks(target, model) or _not_mixed(target, model)
    zero_points = not target.int4_is_symmetric or target.int4_algo_config.startswith("k_quant")
    return _odd_blocks(target, model) if target.precision == "int4" and zero_points else None


def _not_mixed(target: CpuTarget, model: Architecture) -> tuple[str, str] | None:
    family = model.config.get("model_type")
    if family is not None and family not in READ_BACK:
        return "precision", f"which weights of {family!r} a node of the graph has is not known"
    least, _ = bits_between(of_architecture(model, target.int4_block_size))
    if target.bits_per_weight >= least:
        return None
    return (
        "bits_per_weight",
        f"with all of its weights in 4 bits this model has {least:.3f} a weight, as scales and zero"
        f" points count, and may have {target.bits_per_weight:g}",
    )


def _odd_blocks(target: CpuTarget, model: Architecture) -> tuple[str, str] | None:
    """Zero points are two to a byte, and onnxruntime 1.31's quantiser fails at an odd number."""
    for name, (_, width) in model.linears.items():
        blocks = -(-width // target.int4_block_size)
        if blocks % 2:
            return (
                "int4_block_size",
                f"{name} is {width} wide, {blocks} block{'s' * (blocks > 1)} of"
                f" {target.int4_block_size}: onnxruntime packs zero points of an even number only",
            )
    return None


ENTRIES = (
    Provider(
        name="cpu",
        title="CPU",
        section=CpuTarget,
        builder="slmcompile.export.genai_builder:build",
        builds_open=True,
        opener=OPENER,
        made_by=MADE_BY,
        packages=PACKAGES,
        runs_on=RUNS_ON,
        architectures=ARCHITECTURES,
        families=FAMILIES,
        bytes=export_bytes,
        built_with=built_with,
        candidates=CANDIDATES,
        fault=fault,
        inserter=INSERTER,
        inserts_into=WITH_PLACES,
        read_back=READ_BACK,
        devices=frozenset({"cpu", "nvidia", "windows-gpu", "intel", "qualcomm", "apple", "server"}),
        probed=lambda target: bool(target.precision == "mixed"),
        epoch=2,
    ),
)
