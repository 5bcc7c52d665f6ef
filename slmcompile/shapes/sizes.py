"""Sizes that decide how much memory a stage takes; read by its code and by its prediction."""

from __future__ import annotations

LOGITS_AT_ONCE = 1 << 24
"""Elements of the logits that the fused head's product makes at a time, in the model's dtype."""

WIDE_AT_ONCE = 1 << 20
"""Of them in fp32 at a time (4 MiB)."""

SHORT_ROW = 256
"""Longest row, tokens, whose attention is plain products: beyond it the scores no longer fit the
caches and flash kernels win."""

PARITY_ROWS = 8
"""Test rows on which an export's logits are compared with torch's."""
