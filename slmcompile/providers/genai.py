"""What onnxruntime-genai's model builder knows, whichever provider it builds for."""

from __future__ import annotations

from collections.abc import Mapping

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
