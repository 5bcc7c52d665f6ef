"""What a step of LoRA training costs at least on this machine, and how fast its products can be.

The floor of a part of a step is its FLOPs over the rate of frozen products at the model's own
shapes, or its bytes over the bandwidth of a copy of an activation. The roofline is the FLOPs of all
products over that rate. Knows a model with adapters; runs no training.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

FROZEN, THIN, ATTENTION, NORM = "frozen products", "LoRA products", "attention", "RMSNorm"
GATED, OTHER, HEAD, UPDATE = "SwiGLU", "rotary, residual, other", "head and loss", "update"


def best(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Fewest seconds of a call: other programs on a machine only ever add to it."""
    call()
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found) < 5:
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return min(found)


def product_rate(weights: list[torch.Tensor], tokens: int) -> float:
    """FLOP/s of frozen products forward and backward, each of a model's shapes by its share."""
    seconds, shapes = 0.0, Counter(w.shape for w in weights)
    for shape, count in shapes.items():
        turn = itertools.cycle([w for w in weights if w.shape == shape])
        x, slope = (torch.randn(tokens, n).to(weights[0].dtype) for n in (shape[1], shape[0]))
        seconds += count * best(lambda x=x, turn=turn: functional.linear(x, next(turn)))  # type: ignore[misc]
        seconds += count * best(lambda slope=slope, turn=turn: slope @ next(turn))  # type: ignore[misc]
    return 4 * tokens * sum(w.numel() for w in weights) / seconds


def copy_rate(tokens: int, width: int, dtype: torch.dtype) -> float:
    """Bytes read and written a second by a copy of activations, a dozen of them in turn."""
    sources = [torch.randn(tokens, width).to(dtype) for _ in range(12)]
    target, turn = torch.empty_like(sources[0]), itertools.cycle(sources)
    return 2 * target.nbytes / best(lambda: target.copy_(next(turn)))


class Floors:
    """FLOPs and bytes that a step needs at least, a group of operators each.

    Args:
        model: with adapters.
        tokens: of a step.
        trained: of them, trained.
        square: sum of the squares of its rows' lengths.
    """

    def __init__(self, model: Any, tokens: float, trained: float, square: float) -> None:
        config = model.config
        wide, size = config.hidden_size, model.dtype.itemsize
        layers, inner = config.num_hidden_layers, config.intermediate_size
        heads, keys = config.num_attention_heads, config.num_key_value_heads
        head = getattr(config, "head_dim", None) or wide // heads
        self.weights = [
            m.base_layer.weight.detach() for m in model.modules() if hasattr(m, "lora_A")
        ]
        thin = [p for n, p in model.named_parameters() if ".lora_" in n]
        self.flops = {
            FROZEN: 4 * tokens * sum(w.numel() for w in self.weights),
            # Forward, and two products backward.
            THIN: 6 * tokens * sum(p.numel() for p in thin),
            ATTENTION: 3 * 4 * square * heads * head * layers,
            HEAD: 4 * trained * config.vocab_size * wide,
        }
        rotated = tokens * (heads + keys) * head
        self.bytes = {
            # Forward x to y; backward x and the gradient to the gradient.
            NORM: (2 * layers + 1) * 5 * tokens * wide * size,
            # Forward gate and up to y; backward these and the gradient to two gradients.
            GATED: layers * 8 * tokens * inner * size,
            # Rotation forward and backward, 2 each; two residual sums forward (3 each) and the
            # sums of their gradients backward.
            OTHER: layers * (4 * rotated + 12 * tokens * wide) * size,
            # Gradient in; master, two moments, in and out; copy out.
            UPDATE: sum(p.numel() for p in thin) * (2 + 4 + 3 * 8 + 2),
        }
