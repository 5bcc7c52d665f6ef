"""A tiny random model of every family that is named anywhere, of two layers and a width of 32."""

from __future__ import annotations

from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ernie4_5": ("Ernie4_5", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {}),
    "gemma3_text": ("Gemma3Text", {"sliding_window": 4}),
    "granite": ("Granite", {"residual_multiplier": 0.5}),
    "hunyuan_v1_dense": ("HunYuanDenseV1", {}),
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 4}),
    "olmo2": ("Olmo2", {}),
    "phi3": ("Phi3", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "smollm3": ("SmolLM3", {}),
}
"""By ``model_type``: the class of its configuration, and what of it differs from ``SIZES``."""


def config_of(family: str, **changes: Any) -> Any:
    """Its configuration."""
    import transformers

    name, own = FAMILIES[family]
    return getattr(transformers, f"{name}Config")(**{**SIZES, **own, **changes})


def build(family: str, **changes: Any) -> Any:
    """A model of it, the same every time."""
    import torch
    import transformers

    torch.manual_seed(3)
    auto: Any = transformers.AutoModelForCausalLM
    return auto.from_config(config_of(family, **changes))
