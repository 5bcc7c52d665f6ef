"""A page: onnxruntime-web in a browser, by WebAssembly, or by WebGPU where there is one.

The graphs are the builder's for the CPU, since WebAssembly has its kernels (1.30: all of them, and
of 16 bits too, which it computes in fp32 and more slowly). In int8 the weights and, at each step,
what they are multiplied with have 8 bits: WebAssembly multiplies integers as they are and unpacks
blocks of 4 or 8 bits anew at every token. What this computes the CPU's provider computes as well,
so that answers are measured without a browser.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmcompile.providers import cpu, genai
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.genai import ARCHITECTURES, FAMILIES, MADE_BY, PACKAGES, RUNS_ON
from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.provider import Provider, Shown
from slmcompile.shapes.architecture import Architecture

_MOST = 2**31 - 1
"""Bytes of one buffer in a browser, which the weights are handed over in."""


class WebTarget(Target):
    """A folder for a browser: weights in fp32, or quantised to 8 or 4 bits."""

    execution_provider: ProviderName = "web"
    precision: Literal["fp32", "int8", "int4"] = Field(
        description="Type of the exported weights. int8 answers fastest by WebAssembly, whose"
        " products are of integers then; int4 is the least to download and what WebGPU takes best."
    )


def as_for_cpu(target: WebTarget) -> CpuTarget:
    """The target whose graph it is, or is made of."""
    precision = "fp32" if target.precision == "int8" else target.precision
    return CpuTarget(execution_provider="cpu", precision=precision)


def export_bytes(target: WebTarget, model: Architecture) -> float:
    """Bytes of the weights: in int8 a byte each, a scale an output, and an embedding as a head."""
    if target.precision != "int8":
        return cpu.export_bytes(as_for_cpu(target), model)
    tables = sum(rows * width for rows, width in model.others.values())
    matrices = model.linear_parameters + tables
    return matrices + 4.0 * (model.parameters - matrices)


def built_with(target: WebTarget, model: Architecture) -> float:
    """Bytes that the builder holds at once; what is done to its graph goes matrix by matrix."""
    return cpu.built_with(as_for_cpu(target), model)


def fault(target: WebTarget, model: Architecture) -> tuple[str, str] | None:
    """A browser holds no more in one piece, and WebAssembly has 4 GB for it and all else.

    What is no graph for the CPU is none for a browser.
    """
    if unbuilt := genai.fault(target, model):
        return unbuilt
    needed = export_bytes(target, model)
    if needed <= _MOST:
        return None
    return "precision", f"its weights have {needed / 1e9:.1f} GB, a browser takes 2.1 at most"


ENTRIES = (
    Provider(
        name="web",
        title="onnxruntime-web",
        section=WebTarget,
        builder="slmcompile.export.web_builder:build",
        builds_open=True,
        opener="slmcompile.inference.web_folder:load",
        made_by=MADE_BY,
        packages=PACKAGES,
        runs_on=RUNS_ON,
        architectures=ARCHITECTURES,
        families=FAMILIES,
        bytes=export_bytes,
        built_with=built_with,
        fault=fault,
        runtime_name="onnxruntime-web",
        install="the page that slmcompile package makes of it",
        devices=frozenset({"browser"}),
        packer="slmcompile.release.web:entries",
        shown=Shown(
            library="onnxruntime-web",
            tags=("onnx", "onnxruntime-web"),
            form="exported to ONNX for onnxruntime-web",
            usage="slmcompile.report.snippets:web",
        ),
    ),
)
