"""One file for llama.cpp and what is built on it (Ollama, LM Studio)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.llama_cpp import split_by, splitter, unlike
from slmcompile.providers.provider import Provider, Shown
from slmcompile.shapes.architecture import Architecture

ARCHITECTURES: Mapping[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""``model_type`` of those whose tensors and settings ``export/gguf_builder.py`` knows; a test
compares each with torch."""

_WITHOUT_BIASES = frozenset({"qwen3"})
"""``model_type`` of those whose layers have no biases in llama.cpp, whatever a file brings."""


class GgufTarget(Target):
    """A GGUF file: F16, Q8_0 or Q4_K_M, as llama.cpp names them."""

    execution_provider: ProviderName = "gguf"
    precision: Literal["auto", "f16", "q8_0", "q4_k_m"] = Field(
        description="Type of the exported weights, as llama.cpp names it; auto chooses by budget."
    )


def export_bytes(target: GgufTarget, model: Architecture) -> float:
    """Bytes of the file's weights: of Q4_K_M also by whether blocks of 256 fit a row."""
    matrices = [*model.linears.values()]
    tables = [*model.others.values()]
    rest = model.parameters - sum(rows * width for rows, width in [*matrices, *tables])
    return (
        sum(rows * width * _bits(target, width, table=False) for rows, width in matrices)
        + sum(rows * width * _bits(target, width, table=True) for rows, width in tables)
    ) / 8 + 4.0 * rest


def _bits(target: GgufTarget, width: int, *, table: bool) -> float:
    if target.precision == "f16" or width % 32:
        return 16.0
    if target.precision == "q8_0":
        return 8.5
    if width % 256:
        return 8.5 if table else 6.2
    return 6.5625 if table else 4.85


def built_with(_target: GgufTarget, model: Architecture) -> float:
    """Bytes that the builder holds at once: one tensor, put in order and as it is rounded."""
    shapes = [*model.layers.values(), *model.others.values()]
    return 10.0 * max((rows * width for rows, width in shapes), default=0)


def fault(_target: GgufTarget, model: Architecture) -> tuple[str, str] | None:
    """What llama.cpp would compute otherwise, or not open."""
    family = str(model.config.get("model_type"))
    if family not in ARCHITECTURES:
        return None  # which is refused by its name
    what = unlike(model.config)
    if what is None and family in _WITHOUT_BIASES:
        bias = next((name for name in model.shapes if name.endswith(".bias")), None)
        what = f"place for {bias}" if bias else None
    return ("execution_provider", f"llama.cpp's {family} has no {what}") if what else None


def tokenizer_fault(told: Mapping[str, Any]) -> str | None:
    """What llama.cpp would split otherwise."""
    if splitter(told) is not None:
        return None
    kind, steps = told["model"].get("type"), " ".join(split_by(told))[:80]
    return f"llama.cpp has no name for how the model's tokenizer splits a text ({kind}, {steps})"


ENTRIES = (
    Provider(
        name="gguf",
        title="llama.cpp",
        section=GgufTarget,
        builder="slmcompile.export.gguf_builder:build",
        opener="slmcompile.inference.gguf_file:load",
        made_by="llama.cpp",
        packages=("gguf", "xllamacpp"),
        runs_on=("xllamacpp",),
        architectures=ARCHITECTURES,
        families="Llama, Mistral, Qwen 2 or Qwen 3",
        bytes=export_bytes,
        built_with=built_with,
        fault=fault,
        tokenizer_fault=tokenizer_fault,
        candidates={
            name.replace("_", "-"): {"precision": name} for name in ("q4_k_m", "q8_0", "f16")
        },
        tokenizer_writer="",
        finisher="slmcompile.export.modelfile:write",
        computed_by="model.gguf",
        devices=frozenset({"cpu", "apple", "nvidia"}),
        install="pip install 'slmcompile[gguf]'",
        shown=Shown(
            library="gguf",
            tags=("gguf", "llama.cpp", "ollama"),
            form="exported to GGUF for llama.cpp",
            usage="slmcompile.report.snippets:llama_cpp",
        ),
    ),
)
