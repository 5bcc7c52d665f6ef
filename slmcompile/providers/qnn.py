"""Qualcomm's neural processor (HTP), by onnxruntime's QNN provider and its simulator.

A graph there has fixed shapes and computes with integers: weights of 8 bits by the output row,
values of 16, in ranges that rows of training are run for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Literal

from pydantic import Field

from slmcompile.providers.keys import ProviderName, Target
from slmcompile.providers.provider import Provider, Shown
from slmcompile.shapes.architecture import Architecture

GRAPHS = ("prefill", "decode")
"""The two graphs of a folder: one reads ``sequence_length`` tokens at once, the other one."""

ROUNDED = "qdq"
"""Folder of the graphs that these are compiled from, in operators of ONNX alone, and their weights;
they can be compiled for another generation of the processor."""

FACTS = "qnn.json"
"""File of a folder that holds the shapes of its graphs and how its logits are read."""

ARCHITECTURES: Mapping[str, str] = {
    "gemma": "GemmaForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""``model_type`` of those whose layers ``export/qnn_layers.py`` writes; a test compares each with
torch, and its graph on the CPU with the simulator."""

_FOLLOWS_LENGTH = frozenset({"dynamic", "longrope"})
"""Rotations that are others from some length on."""

_ACTIVATIONS = frozenset({"silu", "gelu", "gelu_pytorch_tanh"})

_NODES = 33_000
"""Bytes of the three graphs' nodes for each linear layer, with what stands around it."""


class QnnTarget(Target):
    """A folder for Qualcomm's neural processor: weights in 8 bits, values in 16."""

    execution_provider: ProviderName = "qnn"
    precision: Literal["w8a16"] = Field(
        "w8a16", description="Weights in 8 bits, values between the layers in 16."
    )
    htp_arch: Literal[73, 75, 79, 81] = Field(
        75,
        description="Generation of the processor that it is compiled for: 73 as in Snapdragon 8 Gen"
        " 2 and X Elite, 75 as in 8 Gen 3, 79 as in 8 Elite, 81 as in 8 Elite Gen 5.",
    )
    context_length: int = Field(
        512, ge=16, le=8192, description="Tokens that prompt and answer may have together."
    )
    sequence_length: int = Field(
        32,
        ge=2,
        le=1024,
        description="Tokens of a prompt that are read at once; divides context_length.",
    )
    calibration_rows: int = Field(
        64,
        ge=1,
        le=4096,
        description="Rows of training that the ranges of all values are taken from.",
    )
    simulated_rows: int = Field(
        1,
        ge=0,
        le=64,
        description="Of these the rows that the simulator is asked at export, to hold what was"
        " compiled against the same graph on the CPU.",
    )
    answered_by: Literal["cpu", "simulator"] = Field(
        "cpu",
        description="Who answers the test rows where there is no such processor: the CPU provider,"
        " which runs the same graph, or the simulator, which takes 135 million parameters seconds"
        " for each token.",
    )


def export_bytes(_target: QnnTarget, model: Architecture) -> float:
    """Bytes of weights and graphs: two compiled ones, and the one that they were compiled from.

    In each a matrix is in 8 bits, an embedding in 16, and one that is tied to the head is there in
    both.
    """
    tables = sum(prod(shape) for shape in model.others.values())
    embedding = prod(model.embedding or (0,))
    once = model.linear_parameters + 2.0 * embedding + (tables - embedding or embedding)
    return 3 * once + _NODES * max(1, len(model.linears))


def built_with(target: QnnTarget, model: Architecture) -> float:
    """Bytes that the vendor's compiler holds at once, in a process of its own.

    It has its weights several times over; where it is simulated, two simulated graphs and the same
    two on the CPU, in fp32, are open together. Measured of 135 million parameters with QNN 2.51.
    """
    each = 17.0 if target.simulated_rows else 9.0
    return each * (model.linear_parameters + sum(prod(s) for s in model.others.values()))


def fault(target: QnnTarget, model: Architecture) -> tuple[str, str] | None:
    """What a graph of fixed shapes has no room for, and what its layers do not have."""
    config = model.config
    window = config.get("max_position_embeddings")
    parts, left = divmod(target.context_length, target.sequence_length)
    if left or parts < 2:
        return (
            "sequence_length",
            f"a sequence of {target.sequence_length} tokens does not divide a context of"
            f" {target.context_length} into two or more",
        )
    if isinstance(window, int) and target.context_length > window:
        return (
            "context_length",
            f"a context of {target.context_length} tokens is longer than the model's, {window}",
        )
    windows = config.get("use_sliding_window", config.get("model_type") == "mistral")
    within = config.get("sliding_window") if windows else None
    if isinstance(within, int) and within < target.context_length:
        return (
            "context_length",
            f"the model's attention in a window of {within} tokens is not computed: a context of"
            f" {target.context_length} is longer",
        )
    unlike = next(_unlike(config), "")
    return ("execution_provider", f"its graphs have no {unlike}") if unlike else None


def _unlike(config: Mapping[str, Any]) -> Iterator[str]:
    """What of a configuration the layers would compute otherwise than transformers does."""
    activation = config.get("hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        yield f"activation {activation!r}"
    for told in _rotations(config):
        kind = told.get("rope_type", told.get("type", "default"))
        if kind in _FOLLOWS_LENGTH:
            yield f"rotation that follows the length of a text ({kind})"
        if told.get("partial_rotary_factor", 1.0) != 1.0:
            yield "rotation of a part of each head"


def _rotations(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in ("rope_parameters", "rope_scaling"):
        told = config.get(key)
        nested = [told, *told.values()] if isinstance(told, Mapping) else []
        yield from (each for each in nested if isinstance(each, Mapping))


ENTRIES = (
    Provider(
        name="qnn",
        title="Qualcomm's neural processor",
        section=QnnTarget,
        builder="slmcompile.export.qnn_builder:build",
        opener="slmcompile.inference.qnn_model:load",
        made_by="onnxruntime-qnn 2.7",
        packages=("onnx", "onnxruntime", "onnxruntime-qnn"),
        runs_on=("onnxruntime", "tokenizers"),
        architectures=ARCHITECTURES,
        families="Llama, Mistral, Qwen 2 or 3, SmolLM3 or Gemma 1",
        bytes=export_bytes,
        built_with=built_with,
        fault=fault,
        room=lambda target: int(target.context_length),
        tokenizer_writer="slmcompile.models.tokenizer_files:copy_tokenizer",
        computed_by=FACTS,
        calibration_rows=lambda target: int(target.calibration_rows),
        simulator="onnxruntime-qnn",
        runtime_name="QNNExecutionProvider",
        install="pip install 'slmcompile[qnn]'",
        devices=frozenset({"qualcomm"}),
        shown=Shown(
            library="onnx",
            tags=("onnx", "onnxruntime", "qnn", "qualcomm"),
            form="quantised and compiled for Qualcomm's neural processor",
            usage="slmcompile.report.snippets:qnn",
        ),
    ),
)
