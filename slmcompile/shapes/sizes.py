"""Sizes that decide how much memory a stage takes; read by its code and by its prediction."""

from __future__ import annotations

LOGITS_AT_ONCE = 1 << 24
"""Elements of the fp32 logits held at a time by the fused head (64 MiB)."""

SHORT_ROW = 256
"""Longest row, tokens, whose attention is plain products: beyond it the scores no longer fit the
caches and flash kernels win."""

PARITY_ROWS = 8
"""Test rows on which an export's logits are compared with torch's."""
