"""AdamW (Loshchilov & Hutter, arXiv:1711.05101)."""

from __future__ import annotations

from slmcompile.optimizers.optimizer import Optimizer

ENTRIES = (
    Optimizer(
        name="adamw_torch",
        program="slmcompile.training.optimizers:adamw",
        reads=frozenset({"weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"}),
        # Two moments, fp32.
        state_bytes=8.0,
    ),
)
