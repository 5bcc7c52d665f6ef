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
        digits=2,
    ),
)
