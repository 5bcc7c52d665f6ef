"""Graphics processors, by onnxruntime-genai: CUDA, DirectML, WebGPU and TensorRT for RTX.

Each builds anywhere. Where its runtime is not here, the CPU's runs the very same graph, which
measures its answers and not its speed. In bfloat16 it has no products (onnxruntime 1.31): there it
runs the same weights in fp32 (``inference/widened.py``), which measures them and not their
processor's rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field

from slmcompile.providers.genai import (
    ARCHITECTURES,
    FAMILIES,
    MADE_BY,
    OPENER,
    PACKAGES,
    RUNS_ON,
    fault,
    held,
)
from slmcompile.providers.keys import AUTO, ProviderName, Target
from slmcompile.providers.provider import DeviceKind, Provider
from slmcompile.shapes.architecture import Architecture

_BITS = {"fp16": 16.0, "bf16": 16.0, "int8": 8.5, "int4": 4.5}
"""Of a weight in a matrix; a block of 32 shares a scale of 16 bits."""

_WIDENED = frozenset({"bf16"})


class CudaTarget(Target):
    """A folder for CUDA: weights in fp16 or bf16, or quantised to 8 or 4 bits."""

    execution_provider: ProviderName = "cuda"
    precision: Literal["auto", "fp16", "bf16", "int8", "int4"] = Field(
        description="Type of the exported weights; auto chooses by budget."
    )


class DmlTarget(Target):
    """A folder for DirectML: weights in fp16, or quantised to 4 bits."""

    execution_provider: ProviderName = "dml"
    precision: Literal["auto", "fp16", "int4"] = Field(
        description="Type of the exported weights; auto chooses by budget."
    )


class WebGpuTarget(Target):
    """A folder for WebGPU: weights in fp16, or quantised to 8 or 4 bits."""

    execution_provider: ProviderName = "webgpu"
    precision: Literal["auto", "fp16", "int8", "int4"] = Field(
        description="Type of the exported weights; auto chooses by budget."
    )


class TrtRtxTarget(Target):
    """A folder for TensorRT for RTX: weights in fp16 or bf16."""

    execution_provider: ProviderName = "trt-rtx"
    precision: Literal["fp16", "bf16"] = Field("fp16", description="Type of the exported weights.")


def export_bytes(target: Target, model: Architecture) -> float:
    """Bytes of an ONNX folder's weights, as onnxruntime-genai 0.18 writes them.

    What is no matrix is in fp16; an embedding that is tied to the head lies beside it in fp16,
    but for int4, which shares it.
    """
    tables = sum(rows * width for rows, width in model.others.values())
    matrices = model.linear_parameters + tables
    beside = 2.0 * max((r * w for r, w in model.others.values()), default=0)
    rest = 2.0 * (model.parameters - matrices)
    whole = matrices * _BITS[target.precision] / 8 + rest
    return whole + (beside if target.precision == "int8" else 0.0)


def built_with(target: Target, model: Architecture) -> float:
    """Bytes that the builder holds at once, beside the model; as for the CPU."""
    return held(model, 0.0 if _BITS[target.precision] == 16 else export_bytes(target, model))


def _provider(
    name: str,
    title: str,
    section: type[Target],
    runtime_name: str,
    install: str,
    devices: frozenset[DeviceKind],
    epoch: int = 1,
) -> Provider:
    precisions = get_args(section.model_fields["precision"].annotation)
    return Provider(
        name=name,
        title=title,
        section=section,
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
        fault=fault,
        # What is chosen by its answers is not among those whose own rounding nothing measured.
        candidates={
            each: {"precision": each}
            for each in reversed(precisions)
            if each != AUTO and each not in _WIDENED
        }
        if AUTO in precisions
        else {},
        runtime_name=runtime_name,
        widened=_WIDENED.intersection(precisions),
        install=install,
        devices=devices,
        epoch=epoch,
    )


ENTRIES = (
    _provider(
        *("cuda", "CUDA", CudaTarget, "CUDAExecutionProvider", "onnxruntime-genai-cuda"),
        devices=frozenset({"nvidia"}),
        epoch=2,
    ),
    _provider(
        *("dml", "DirectML", DmlTarget, "DmlExecutionProvider", "onnxruntime-genai-directml"),
        devices=frozenset({"windows-gpu"}),
    ),
    _provider(
        *("webgpu", "WebGPU", WebGpuTarget, "WebGpuExecutionProvider"),
        "onnxruntime-genai with its WebGPU plug-in",
        devices=frozenset({"windows-gpu", "apple"}),
        epoch=2,
    ),
    _provider(
        *("trt-rtx", "TensorRT for RTX", TrtRtxTarget, "NvTensorRTRTXExecutionProvider"),
        "onnxruntime-genai-winml",
        devices=frozenset({"nvidia"}),
    ),
)

IN_CONFIG: Mapping[str, str] = {
    "cuda": "cuda",
    "dml": "dml",
    "webgpu": "webgpu",
    "NvTensorRtRtx": "trt-rtx",
}
"""Providers by what ``genai_config.json`` calls them."""
