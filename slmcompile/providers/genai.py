"""What onnxruntime-genai's model builder knows, whichever provider it builds for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slmcompile.shapes.architecture import Architecture

OPENER = "slmcompile.inference.onnx_model:load"
PACKAGES = ("onnxruntime", "onnxruntime-genai", "onnx", "onnx-ir")
RUNS_ON = ("onnxruntime", "onnxruntime-genai")
MADE_BY = "onnxruntime-genai 0.18"
FAMILIES = "Llama, Qwen 2 or 3, Phi, Gemma, Mistral, SmolLM3, Granite or OLMo 1"

ARCHITECTURES: Mapping[str, str] = {
    "ernie4_5": "Ernie4_5ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma4": "Gemma4ForConditionalGeneration",
    "gemma4_unified": "Gemma4UnifiedForConditionalGeneration",
    "gpt_oss": "GptOssForCausalLM",
    "granite": "GraniteForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "hunyuan_v1_dense": "HunYuanDenseV1ForCausalLM",
    "internlm3": "LlamaForCausalLM",
    "iquestcoder": "LlamaForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "lfm2_moe": "Lfm2MoeForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "olmo": "OlmoForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""``model_type`` → the class that transformers 5.23 opens as a causal language model, for those
classes that the builder knows. It asks ``config.architectures``, which transformers writes by the
class that it saves, so ``model_type`` decides. A test holds the table against both packages."""

INSERTER = "slmcompile.export.graph_adapters:insert"

WITH_PLACES = frozenset(
    {
        "ernie4_5",
        "gemma",
        "gemma2",
        "granite",
        "hunyuan_v1_dense",
        "llama",
        "mistral",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
    }
)
"""``model_type`` of those whose graphs, as the builder makes them, have their sublayers' outputs
where ``export/graph_sublayers.py`` looks; a test exports each with a trained adapter. Phi and
Nemotron have other graphs, and of the Gemma 3 of transformers 5.23 no graph is built at all."""

READ_BACK = WITH_PLACES
"""``model_type`` of those in whose graphs ``models/graph_products.py`` finds every module; a test
puts an adapter beside the base of each, over what its int4 graph holds. They are the same now."""


_LLAMAS = frozenset({"llama3", "dynamic"})
_LINEAR = frozenset({"linear"})
_STRETCHED: Mapping[str, frozenset[str]] = {
    "gemma": _LINEAR,
    "gemma2": _LINEAR,
    "granite": _LINEAR,
    "hunyuan_v1_dense": frozenset({"dynamic"}),
    "internlm3": _LLAMAS,
    "iquestcoder": _LLAMAS,
    "llama": _LLAMAS,
    "mistral": _LINEAR,
    "olmo": frozenset(),
    "phi": frozenset(),
    "phi3": frozenset({"longrope"}),
    "qwen2": _LINEAR,
    "qwen3": _LINEAR,
    "smollm3": _LLAMAS,
}
"""``model_type`` → rotations of its graph beside the plain one that are those of transformers. Of
others the builder says nothing, or fails; a dynamic one only differs beyond the model's context."""

_WIDEST = 1 << 16
"""Of a head; what says more is no configuration, which others refuse."""

_UNFUSED = frozenset({"hunyuan_v1_dense"})
"""``model_type`` of those whose graph rotates outside of its attention."""


def fault(_target: Any, model: Architecture) -> tuple[str, str] | None:
    """What onnxruntime 1.31's attention has no kernel for, and what the builder would leave out."""
    reason = next(_faults(model.config), None)
    return ("execution_provider", reason) if reason else None


def _faults(config: Mapping[str, Any]) -> Iterator[str]:
    family = str(config.get("model_type"))  # whatever a stranger's file has there
    for kind, part in _rotations(config):
        if kind not in _STRETCHED.get(family, {kind}) | {"default"}:
            yield f"its graph of {family!r} has not the model's rotation ({kind})"
        head = _head(config)
        if head is None:
            continue
        least = 8 if family in _UNFUSED else 16
        if head % least:
            yield f"its attention takes heads of a multiple of {least}, and the model's have {head}"
        if int(head * part) % 16 and part != 1:
            yield f"its attention rotates a multiple of 16 of a head, and the model {head * part:g}"


def _head(config: Mapping[str, Any]) -> int | None:
    """Width of a head; None where the configuration does not say it."""
    given = config.get("head_dim")
    if not isinstance(given, int):
        width, heads = config.get("hidden_size"), config.get("num_attention_heads")
        if not (isinstance(width, int) and isinstance(heads, int) and heads):
            return None
        given = width // heads
    return given if 0 < given <= _WIDEST else None


def _rotations(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Kind of each rotary embedding, and how much of a head it turns."""
    told = config.get("rope_parameters") or config.get("rope_scaling") or {}
    told = told if isinstance(told, Mapping) else {}
    by_layer = [each for each in told.values() if isinstance(each, Mapping)]
    for each in by_layer or [told]:
        kind = each.get("rope_type") or each.get("type") or "default"
        part = each.get("partial_rotary_factor") or config.get("partial_rotary_factor")
        yield str(kind), part if isinstance(part, float) and 0 < part < 1 else 1.0


def held(model: Architecture, quantised: float) -> float:
    """Bytes that the builder holds at once, beside the open model that it reads.

    Queries, keys and values are copied into one matrix. In floating point the rest is written
    matrix by matrix, each turned first; a matrix that is quantised is turned, put into a message
    and read from it, and what comes out is kept until all are done, when the copies are gone.

    Args:
        model: its shapes.
        quantised: bytes of what comes out; 0 in floating point.
    """
    sizes = {name: 4.0 * rows * width for name, (rows, width) in model.layers.items()}
    largest = max(sizes.values(), default=0.0)
    if quantised:
        return quantised + 3 * largest
    packed = sum(size for name, size in sizes.items() if name.endswith(_PACKED))
    return packed + largest


_PACKED = ("q_proj", "k_proj", "v_proj")
