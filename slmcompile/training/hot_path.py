"""Puts the fused forms of this package into a model, where each of them applies.

Every piece leaves the modelling code of transformers and PEFT in place where its formula is not
the module's own: other adapter variants, other norms and activations, capped attention. So every
family trains, and the common ones train fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmcompile.training import flat_attention, fused_elementwise, grouped_lora, whole_layer
from slmcompile.training.layout import Layout


def install(
    model: Any, layout: Layout, adapters: Mapping[str, str], seed: int = 0
) -> dict[str, int]:
    """Swaps forwards in place, parameters untouched; returns how many modules run each form.

    Args:
        model: a causal language model of transformers with adapters injected, its trained weights
            already in the dtype that it computes in.
        layout: tells the model's modules which rows are in it.
        adapters: the name of each learner's adapter in PEFT's layers, by member.
        seed: of dropout.
    """
    found = {
        "fused_lora": grouped_lora.install(model, adapters, layout, seed),
        "fused_rms_norm": fused_elementwise.install_rms_norm(model),
        "fused_swiglu": fused_elementwise.install_swiglu(model),
        "grouped_attention": flat_attention.install(model, layout),
    }
    # Behind the others: it asks what they compute, and leaves to them what it does not take.
    return {**found, **whole_layer.install(model, layout, adapters)}
