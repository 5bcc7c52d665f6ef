"""The metrics that exist: one module a family, declarations alone. What they do is in scoring/."""

from __future__ import annotations

from slmcompile.metrics.metric import Metric
from slmcompile.registry.table import Table

METRICS: Table[Metric] = Table("metric", __name__, lambda metric: (metric.place, metric.name))
"""Every metric, in the order of every table's columns."""

AGAINST_FORGETTING = "perplexity"
"""What is measured of a source that is no part of the task, where nothing of its kind is wanted."""
