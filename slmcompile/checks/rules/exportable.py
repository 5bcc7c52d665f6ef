"""Check 12: what is trained can be exported to every target."""

from __future__ import annotations

from collections.abc import Mapping

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.context import CheckContext
from slmcompile.methods import METHODS
from slmcompile.recipe.schema import RandomModel

BUILDER = "onnxruntime-genai 0.18"

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

PAIRS: Mapping[str, frozenset[str]] = {
    "fp32": frozenset({"cpu", "cuda"}),
    "fp16": frozenset({"cuda", "dml", "trt-rtx"}),
    "bf16": frozenset({"cuda", "trt-rtx"}),
    "int8": frozenset({"cpu", "cuda", "webgpu"}),
    "int4": frozenset({"cpu", "cuda", "dml", "webgpu"}),
}
"""Execution providers by precision (https://github.com/microsoft/onnxruntime-genai)."""


@check(
    12,
    "exportable",
    "training ends in a model that the exporter refuses",
    needs=("C", "H"),
)
def exportable(context: CheckContext) -> Verdict:
    """Architecture, adapter, precision and execution provider, all of them before training."""
    for name, target in context.recipe.target.items():
        if target.execution_provider not in PAIRS[target.precision]:
            return refuted(
                f"{BUILDER} makes no {target.precision} for {target.execution_provider}",
                f"{target.precision} goes with {', '.join(sorted(PAIRS[target.precision]))}",
                context.at(f"target.{name}.precision"),
            )
    pairs = ", ".join(
        f"{target.execution_provider} {target.precision}"
        for target in context.recipe.target.values()
    )
    if context.model is None:
        if not isinstance(context.recipe.model.source, RandomModel):
            return needs_probe(context.base_stage, "the model's architecture")
        family = "llama"
    else:
        family = str(context.model.config.get("model_type"))
    if family not in ARCHITECTURES:
        return refuted(
            f"{BUILDER} cannot export the architecture {family!r}",
            "name a Llama, Qwen 2 or 3, Phi, Gemma, Mistral, SmolLM3, Granite or OLMo 1 model",
            context.at("model.source"),
        )
    method = METHODS[context.recipe.train.method]
    form = "all weights" if method.writes == "model" else f"a {method.name} adapter, merged"
    return proved(f"{ARCHITECTURES[family]}, {form}, as {pairs} by {BUILDER}")
