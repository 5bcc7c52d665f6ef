"""Whether an answer says just what the reference says."""

from slmcompile.metrics.metric import Metric

ENTRIES = (
    Metric(
        name="exact_match",
        title="Exact match",
        words="exact match",
        place=10,
        needs="text",
        program="slmcompile.scoring.exact_match:EXACT_MATCH",
        of_task=True,
    ),
)
