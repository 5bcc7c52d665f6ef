"""The CPU, by onnxruntime-genai."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

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
    "int4-block-16": {"precision": "int4", "int4_block_size": 16},
    "int4-k-quant-mixed": {"precision": "int4", "int4_algo_config": "k_quant_mixed"},
    "int8": {"precision": "int8"},
    "fp32": {"precision": "fp32"},
}
"""What onnxruntime-genai 0.18's builder makes that another is not better than in size and in
likelihood, as measured on SmolLM2-135M; what is larger than all of it, to be there when they
fail."""


class CpuTarget(Target):
    """A folder for a CPU: weights in fp32, or quantised to 8 or 4 bits."""

    execution_provider: ProviderName = "cpu"
    precision: Literal["auto", "fp32", "int8", "int4"] = Field(
        description="Type of the exported weights; auto chooses by budget."
    )
    int4_algo_config: Literal["default", "rtn", "k_quant", "k_quant_mixed", "k_quant_last"] = Field(
        "default", description="int4 only: quantisation algorithm of the model builder."
    )
    int4_block_size: Literal[16, 32, 64, 128, 256] = Field(
        32, description="int4 only: weights that share one scale."
    )
    int4_is_symmetric: bool = Field(True, description="int4 only: no zero point.")


def export_bytes(target: CpuTarget, model: Architecture) -> float:
    """Bytes of an ONNX folder's weights, as onnxruntime-genai 0.18 writes them.

    Quantised matrices have an fp32 scale in every block; what is no matrix stays in fp32. In int4
    an embedding that is tied to the head is shared with it, in int8 it lies beside it in fp32.
    """
    if target.precision == "fp32":
        return 4.0 * model.parameters
    bits = _PACKED[target.precision] + 32 / target.int4_block_size
    tables = sum(rows * width for rows, width in model.others.values())
    matrices = model.linear_parameters + tables
    beside = 4.0 * max((r * w for r, w in model.others.values()), default=0)
    rest = 4.0 * (model.parameters - matrices)
    return matrices * bits / 8 + rest + (beside if target.precision == "int8" else 0)


def built_with(target: CpuTarget, model: Architecture) -> float:
    """Bytes that onnxruntime-genai 0.18's builder holds at once, beside the model."""
    return held(model, 0.0 if target.precision == "fp32" else export_bytes(target, model))


def fault(target: CpuTarget, model: Architecture) -> tuple[str, str] | None:
    """Zero points are two to a byte, and onnxruntime 1.31's quantiser fails at an odd number."""
    zero_points = not target.int4_is_symmetric or target.int4_algo_config.startswith("k_quant")
    if target.precision != "int4" or not zero_points:
        return None
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
        epoch=2,
    ),
)
