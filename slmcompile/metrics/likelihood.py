"""The model's own probabilities of the references."""

from math import inf

from slmcompile.metrics.metric import Metric

ENTRIES = (
    Metric(
        name="perplexity",
        title="Perplexity",
        words="perplexity",
        place=80,
        needs="likelihood",
        program="slmcompile.scoring.perplexity:PERPLEXITY",
        higher_is_better=False,
        low=1.0,
        high=inf,
        default_of=frozenset({"every"}),
        digits=2,
    ),
    Metric(
        name="bits_per_byte",
        title="Bits per byte",
        words="bits per byte",
        place=81,
        needs="likelihood",
        program="slmcompile.scoring.bits_per_byte:BITS_PER_BYTE",
        higher_is_better=False,
        high=inf,
        default_of=frozenset({"documents"}),
        packages=("transformers", "tokenizers"),
        stages=("base",),
        column="slmcompile.scoring.bits_per_byte:open_column",
    ),
)
