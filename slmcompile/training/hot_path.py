"""Puts the fused forms of this package into a model, where each of them applies.

Every piece leaves the modelling code of transformers and PEFT in place where its formula is not
the module's own: LoRA dropout, other adapter variants, other norms and activations, capped
attention. So every family trains, and the common ones train fast.
"""

from __future__ import annotations

from typing import Any

from slmcompile.training import fused_elementwise, fused_lora, grouped_attention


def install(model: Any) -> dict[str, int]:
    """Swaps forwards in place, parameters untouched; returns how many modules run each form.

    Args:
        model: a causal language model of transformers with an adapter injected, its trained
            weights already in the dtype that it computes in.
    """
    return {
        "fused_lora": fused_lora.install(model),
        "fused_rms_norm": fused_elementwise.install_rms_norm(model),
        "fused_swiglu": fused_elementwise.install_swiglu(model),
        "grouped_attention": grouped_attention.install(model),
    }
