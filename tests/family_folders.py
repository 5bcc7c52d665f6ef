"""Tiny random models of the families that small language models come from, with a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from slmcompile.base.facts import read_model_facts
from slmcompile.facts.architecture import architecture
from slmcompile.shapes.architecture import Architecture

FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {},
    "Phi3": {"original_max_position_embeddings": 128, "sliding_window": 4},
    "Gemma2": {"query_pre_attn_scalar": 16, "sliding_window": 4},
    "Gemma3Text": {"query_pre_attn_scalar": 16, "sliding_window": 4},
    "Mistral": {"sliding_window": 4},
    "SmolLM3": {"no_rope_layers": [1, 0]},
    "Granite": {"logits_scaling": 2.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0},
    "Olmo2": {},
}
"""By the start of a class of transformers: sizes of its own that matter to what is computed."""

_SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    # A narrow frozen head cannot say anything at the usual 0.02; see tiny_training.make_base.
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def make_family(family: str, folder: Path, tokenizer: Any, **changes: Any) -> Path:
    """A base-model folder in the hub's layout; norms are random too, so that none is a no-op."""
    config = getattr(transformers, f"{family}Config")(
        **{**_SIZES, **FAMILIES.get(family, {}), **changes}
    )
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.add_(0.1 * torch.randn_like(weight))
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def architecture_of_folder(folder: Path) -> Architecture:
    """What a plan knows of the model, from its files alone."""
    facts = read_model_facts(folder, folder.name)
    assert facts is not None
    return architecture(facts.config, facts.tensors, facts.dtypes)
