"""Peak resident memory of the stages that build an ONNX folder, as intervals, from shapes alone.

Counted is what ``export/`` holds at once. The model in torch, fp32, is there from beginning to end.
On top of it comes the larger of two:

- what the provider's builder holds (``Provider.built_with``): it reads the model from a file into
  one of its own, and writes from that;
- in an export what is compared on ``PARITY_ROWS`` rows: the runtime with the weights that ship, as
  they lie in the file and again as it packs them, and both sides' logits.

Opening a model that is stored in another dtype takes less than either. The factors over what is
counted are measured on SmolLM2-135M (``benchmarks/build_memory.py`` measures again): quantising to
int4 took 2.42 GB in an interval of 2.19 to 2.74, an export merged into fp32 2.91 in one of 1.95 to
3.22.

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
BUILT = Interval(0.9, 1.1)
"""Resident bytes for a byte that the builder holds."""
IN_RUNTIME = Interval(1.6, 2.6)
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
    target: Target, model: Architecture, adapter: int, vocabulary: int, rows: Rows, *, builds: bool
) -> Interval:
    """Bytes at the peak of an ``export`` stage.

    Args:
        target: what is built for.
        model: the base model.
        adapter: weights of an adapter, which is merged from memory.
        vocabulary: tokens that have a logit.
        rows: lengths.
        builds: whether it builds; what stands beside a base finds that built.
    """
    ships = exactly(PROVIDERS[target.execution_provider].bytes(target, model)) * IN_RUNTIME
    compared = ships + _logits(vocabulary, rows)
    most = larger(compared, _built(target, model)) if builds else compared
    return LIBRARIES + _weights(model) + 4.0 * adapter + most


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
