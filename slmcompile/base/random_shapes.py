"""Names and shapes of the tensors of a random model, which follow from its configuration.

Knows how transformers names a Llama's weights; imports nothing, so that a plan can ask.
"""

from __future__ import annotations

from slmcompile.recipe.schema import RandomModel


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
