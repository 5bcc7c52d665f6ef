"""Peak resident memory of the stages that build an ONNX folder, as intervals, from shapes alone.

Counted is what ``export/`` holds at once, which is the largest of these:

- opening: the model in torch, fp32; what is stored is read tensor by tensor;
- building: the model, and what the provider's builder holds (``Provider.built_with``); where it
  reads a saved model, that model too;
- comparing on ``PARITY_ROWS`` rows: the runtime with the weights that ship, as they lie in the file
  and again as it packs them, and both sides' logits; and the model, if its logits take more room.

The factors over what is counted are measured on SmolLM2-135M and on 1.13 billion random weights
(``benchmarks/build_memory.py`` measures again).

Knows sizes; knows nothing of recipes' files, devices or verdicts.
"""

from __future__ import annotations

from slmcompile.estimate.memory import MB, Rows
from slmcompile.inference.batching import SCORE_BYTES
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target
from slmcompile.shapes.architecture import Architecture
from slmcompile.shapes.interval import Interval, exactly, larger
from slmcompile.shapes.sizes import PARITY_ROWS

LIBRARIES = Interval(480 * MB, 760 * MB)
"""Python, torch, transformers, onnxruntime and its builder, with the pages that a build touches."""
BUILT = Interval(0.85, 1.15)
"""Resident bytes for a byte that the builder holds."""
IN_RUNTIME = Interval(1.0, 2.6)
"""Resident bytes for a byte of the weights that ship."""
COPIES = Interval(2.0, 4.5)
"""Copies of the fp32 logits of a batch at once, of torch and of the runtime together."""


def quantize_memory(target: Target, model: Architecture) -> Interval:
    """Bytes at the peak of a ``quantize`` stage.

    Args:
        target: what is built for.
        model: the base model.
    """
    return LIBRARIES + _weights(model) + _built(target, model)


def export_memory(
    target: Target,
    model: Architecture,
    adapter: int,
    vocabulary: int,
    rows: Rows,
    *,
    builds: bool,
    again: bool = False,
) -> Interval:
    """Bytes at the peak of an ``export`` stage.

    Args:
        target: what is built for.
        model: the base model.
        adapter: weights of an adapter, which is merged from memory.
        vocabulary: tokens that have a logit.
        rows: lengths.
        builds: whether it builds; what stands beside a base finds that built.
        again: whether the builder opens a saved model, beside the one in memory.
    """
    weights, opened = exactly(_weights(model)), exactly(_weights(model) * again)
    provider = PROVIDERS[target.execution_provider]
    ships = exactly(provider.bytes(target, model)) * IN_RUNTIME
    kept = exactly(4.0 * vocabulary * PARITY_ROWS) * rows.longest
    # The model goes before the runtime comes where its logits take less room.
    stays = Interval(0.0, weights.high) if kept.high >= weights.high else exactly(0.0)
    compared = ships + _logits(vocabulary, rows) + larger(stays, kept)
    built = weights
    if builds:
        # Where weights go as they are quantised, what comes out is there in their place.
        held, out = _built(target, model), provider.bytes(target, model) * BUILT.low
        built += opened + Interval(max(0.0, held.low - out), held.high)
    return LIBRARIES + 4.0 * adapter + larger(built, compared)


def probe_memory(model: Architecture, vocabulary: int, rows: Rows) -> Interval:
    """Bytes at the peak of a ``probe`` stage, where all weights are there twice for a while.

    Rows are asked as those of an evaluation are, by torch alone.

    Args:
        model: the base model.
        vocabulary: tokens that have a logit.
        rows: lengths.
    """
    return LIBRARIES + 2 * _weights(model) + Interval(0, _logits(vocabulary, rows).high)


def _weights(model: Architecture) -> float:
    return 4.0 * model.parameters


def _built(target: Target, model: Architecture) -> Interval:
    return exactly(PROVIDERS[target.execution_provider].built_with(target, model)) * BUILT


def _logits(vocabulary: int, rows: Rows) -> Interval:
    """Of the largest batch that is compared: one row at least."""
    position = 4.0 * vocabulary
    longest = rows.longest
    fits = max(position * longest.high, min(SCORE_BYTES, position * longest.high * PARITY_ROWS))
    return Interval(position * longest.low, fits) * COPIES
