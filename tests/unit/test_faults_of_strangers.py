"""A stranger's ``config.json`` holds whatever it likes: a target's fault is told of it, or none."""

from __future__ import annotations

from typing import Any

import pytest

from slmcompile.providers import PROVIDERS
from slmcompile.recipe.schema import target_section
from slmcompile.shapes.architecture import Architecture

ANYTHING: list[Any] = [None, [], {}, [1], {"a": 1}, "x", "", -1, 0, 10**30, 0.5, float("inf"), True]
KEYS = (
    "model_type", "head_dim", "hidden_size", "num_attention_heads", "rope_parameters",
    "rope_scaling", "partial_rotary_factor", "hidden_act", "sliding_window",
    "use_sliding_window", "max_position_embeddings", "rope_theta",
)  # fmt: skip
PLAIN = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
}
SHAPES = {"model.layers.0.self_attn.q_proj": (64, 64)}


@pytest.mark.parametrize(
    ("provider", "precision"),
    [("cpu", "fp32"), ("cuda", "fp16"), ("webgpu", "int4"), ("web", "int8"), ("gguf", "f16")],
)
def test_whatever_a_key_holds_is_no_fault_of_ours(provider: str, precision: str) -> None:
    target = target_section({"execution_provider": provider, "precision": precision})
    fault = PROVIDERS[provider].fault

    def of(config: dict[str, Any]) -> tuple[str, str] | None:
        return fault(target, Architecture(config, SHAPES, SHAPES, {}, {"F32": 4 * 64 * 64}))

    assert of(PLAIN) is None
    for key in KEYS:
        for value in ANYTHING:
            found = of({**PLAIN, key: value})
            assert found is None or all(isinstance(part, str) for part in found)
