"""Random weights, for tests; the model's sizes follow from the recipe.

Knows how transformers names a Llama's weights; imports nothing of it, so that a plan can ask.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from slmcompile.registry.scalars import ProjectPath
from slmcompile.registry.section import Seed
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.source import Described, ModelSource


class RandomModel(SourceKeys):
    """A randomly initialised Llama with a byte-level BPE tokenizer trained on the spot (tests)."""

    type: Literal["random"] = Field(description="Random weights, for tests.")
    tokenizer_text: ProjectPath = Field(description="Text file the tokenizer is trained on.")
    vocab_size: int = Field(
        512,
        ge=270,
        le=65536,
        description="Tokens of the vocabulary; the tokenizer is trained to at most this size.",
    )
    num_attention_heads: int = Field(4, ge=1, le=64, description="Query heads.")
    num_key_value_heads: int = Field(
        2,
        ge=1,
        le=64,
        description="Key and value heads; divides num_attention_heads.",
        validate_default=True,
    )
    hidden_size: int = Field(
        64,
        ge=8,
        le=4096,
        description="Width of the residual stream; 8 or a multiple of it for each attention head.",
        validate_default=True,
    )
    intermediate_size: int = Field(
        128, ge=8, le=16384, description="Width of the feed-forward layers."
    )
    num_hidden_layers: int = Field(2, ge=1, le=64, description="Transformer blocks.")
    max_position_embeddings: int = Field(
        256, ge=16, le=131072, description="Context length in tokens."
    )
    seed: Seed = Field(0, description="Seed of the random weights.")

    @field_validator("num_key_value_heads")
    @classmethod
    def _shared_evenly(cls, count: int, info: ValidationInfo) -> int:
        heads = info.data.get("num_attention_heads", count)
        if heads % count:
            raise PydanticCustomError(
                "keys_disagree",
                "must divide num_attention_heads, {heads}",
                {
                    "heads": heads,
                    "mend": f"give a divisor of {heads}, or change num_attention_heads",
                },
            )
        return count

    @field_validator("hidden_size")
    @classmethod
    def _whole_heads(cls, width: int, info: ValidationInfo) -> int:
        """ONNX Runtime's GroupQueryAttention takes heads of 8, 16, … dimensions on a CPU."""
        heads = info.data.get("num_attention_heads")
        if heads and width % (8 * heads):
            raise PydanticCustomError(
                "keys_disagree",
                "must be a multiple of 8 for each of {heads} heads",
                {
                    "heads": heads,
                    "mend": f"give a multiple of {8 * heads}, or change num_attention_heads",
                },
            )
        return width


def random_shapes(source: RandomModel) -> dict[str, tuple[int, ...]]:
    """Shape by name of every tensor that ``make_random`` stores (tied weights once)."""
    hidden, wide = source.hidden_size, source.intermediate_size
    width = hidden // source.num_attention_heads
    queries, keys = width * source.num_attention_heads, width * source.num_key_value_heads
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (source.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    for number in range(source.num_hidden_layers):
        layer = f"model.layers.{number}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.self_attn.q_proj.weight": (queries, hidden),
            f"{layer}.self_attn.k_proj.weight": (keys, hidden),
            f"{layer}.self_attn.v_proj.weight": (keys, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, queries),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.mlp.gate_proj.weight": (wide, hidden),
            f"{layer}.mlp.up_proj.weight": (wide, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, wide),
        }
    return shapes


def random_config(source: RandomModel) -> dict[str, object]:
    """The sizes in its ``config.json``."""
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
    )
    sizes = {name: getattr(source, name) for name in names}
    return {"model_type": "llama", "tie_word_embeddings": True, **sizes}


def _described(source: RandomModel) -> Described:
    return Described(random_config(source), random_shapes(source))


ENTRIES = (
    ModelSource(
        name="random",
        place=40,
        section=RandomModel,
        program="slmcompile.base.random_init:make_random",
        file="tokenizer_text",
        described=_described,
        made_here=True,
    ),
)
