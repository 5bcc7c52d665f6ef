"""Sizes that decide how much memory the training code takes; read by it and by its prediction."""

from __future__ import annotations

LOGITS_AT_ONCE = 1 << 24
"""Elements of the fp32 logits held at a time by the fused head (64 MiB)."""

SHORT_ROW = 256
"""Longest row, tokens, whose attention is plain products: beyond it the scores no longer fit the
caches and flash kernels win."""
