"""Intel's processors, by OpenVINO: built from torch, run here on the CPU.

It does not read the graphs of onnxruntime-genai's builder: openvino 2026.4 knows their attention
for one row at a time, without padding, and refuses Gemma 2's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.provider import Provider, Shown
from slmcompile.shapes.architecture import Architecture

MODEL = "openvino_model.xml"
"""The graph's file, beside which lie its weights; as openvino-genai looks for them."""

TOKENIZER = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")
"""Graphs of what turns text into ids, and ids into text."""

ARCHITECTURES: Mapping[str, str] = {
    "ernie4_5": "Ernie4_5ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "hunyuan_v1_dense": "HunYuanDenseV1ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""``model_type`` → class. A test traces each and sets padded batches, windows and a decoded answer
against torch's."""

MASK_BY_LAYER = frozenset({"gemma2", "gemma3_text", "qwen2", "qwen3", "smollm3"})
"""``model_type`` of those in transformers 5.23 that take a mask for each kind of layer."""

_FOLLOWS_LENGTH = frozenset({"dynamic", "longrope"})
"""Rotations that are others from some length on, which a traced graph is not."""

_GRAPH = 14_000
"""Bytes of the graph's text for each linear layer, with what stands around it."""

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "int4-group-128": {"precision": "int4", "int4_group_size": 128},
    "int4": {"precision": "int4"},
    "int4-asymmetric": {"precision": "int4", "int4_is_symmetric": False},
    "int8": {"precision": "int8"},
    "fp16": {"precision": "fp16"},
}


class OpenVinoTarget(Target):
    """A folder for OpenVINO: weights in fp32 or fp16, or quantised to 8 or 4 bits."""

    execution_provider: ProviderName = "openvino"
    precision: Literal["auto", "fp32", "fp16", "int8", "int4"] = Field(
        description="Type of the exported weights; auto chooses by budget."
    )
    int4_group_size: Literal[32, 64, 128] = Field(
        32, description="int4 only: weights that share one scale."
    )
    int4_is_symmetric: bool = Field(True, description="int4 only: no zero point.")


def export_bytes(target: OpenVinoTarget, model: Architecture) -> float:
    """Bytes of weights and graph, as openvino 2026.4 and nncf 3.4 write them.

    A matrix has an fp16 scale in every row, or in every group of a row; embedding and head are in
    8 bits with a zero point where the rest is in 4, and once where they are tied. What is no matrix
    stays in fp32.
    """
    graph = _GRAPH * max(1, len(model.linears))
    if target.precision in {"fp32", "fp16"}:
        return (4.0 if target.precision == "fp32" else 2.0) * model.parameters + graph
    tables = sum(rows * (width + 2) for rows, width in model.others.values())
    if target.precision == "int8":
        matrices = float(sum(rows * (width + 2) for rows, width in model.linears.values()))
    else:
        tables += sum(rows for rows, _ in model.others.values())
        scale = 16 if target.int4_is_symmetric else 20
        matrices = model.linear_parameters * (4 + scale / target.int4_group_size) / 8
    weights = model.linear_parameters + sum(r * w for r, w in model.others.values())
    return matrices + tables + 4.0 * (model.parameters - weights) + graph


def built_with(target: OpenVinoTarget, model: Architecture) -> float:
    """Bytes that the builder holds at once, beside the open model, whose weights its graph shares.

    Quantised ones are kept beside them until all are done, each from a copy that is as large as
    itself.
    """
    largest = 4.0 * max((rows * width for rows, width in model.layers.values()), default=0)
    if target.precision == "fp32":
        return largest
    return export_bytes(target, model) + 2 * largest


def fault(target: OpenVinoTarget, model: Architecture) -> tuple[str, str] | None:
    """Groups that do not divide a row are left in floating point, and a trace has one rotation."""
    for kind in sorted(set(_rotations(model.config)) & _FOLLOWS_LENGTH):
        return (
            "execution_provider",
            f"the model's rotation ({kind}) follows the length of a text, which a traced graph"
            " cannot",
        )
    if target.precision == "int4":
        for name, (_, width) in model.linears.items():
            if width % target.int4_group_size:
                return (
                    "int4_group_size",
                    f"{name} is {width} wide, which groups of {target.int4_group_size} do not"
                    " divide",
                )
    return None


def _rotations(config: Mapping[str, Any]) -> Iterator[str]:
    """Kinds of rotary embedding that a configuration names, also by the kind of layer."""
    for key in ("rope_parameters", "rope_scaling"):
        told = config.get(key)
        nested = [told, *told.values()] if isinstance(told, Mapping) else []
        for each in nested:
            if isinstance(each, Mapping):
                yield str(each.get("rope_type", each.get("type", "default")))


ENTRIES = (
    Provider(
        name="openvino",
        title="OpenVINO",
        section=OpenVinoTarget,
        builder="slmcompile.export.openvino_builder:build",
        opener="slmcompile.inference.openvino_model:load",
        made_by="openvino 2026.4",
        packages=("openvino", "openvino-tokenizers", "openvino-genai", "nncf"),
        runs_on=("openvino", "openvino-genai"),
        architectures=ARCHITECTURES,
        families="Llama, Qwen 2 or 3, Phi 3, Gemma, Mistral, SmolLM3, Granite or OLMo 2",
        bytes=export_bytes,
        built_with=built_with,
        builds_open=True,
        candidates=CANDIDATES,
        fault=fault,
        computed_by=MODEL,
        devices=frozenset({"intel"}),
        shown=Shown(
            library="openvino",
            tags=("openvino-genai",),
            form="exported to OpenVINO",
            usage="slmcompile.report.snippets:openvino",
        ),
        install="pip install 'slmcompile[openvino]'",
    ),
)
