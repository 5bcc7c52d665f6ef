"""Where base models and rows may come from: one module each, declarations alone.

Their programs are in ``base/`` and ``data/``.
"""

from __future__ import annotations

from slmcompile.registry.table import Table
from slmcompile.sources.keys import SourceKeys
from slmcompile.sources.source import DataSource, Described, ModelSource

MODEL_SOURCES: Table[ModelSource] = Table(
    "model source", f"{__name__}.of_models", lambda source: (source.place, source.name)
)
DATA_SOURCES: Table[DataSource] = Table(
    "data source", f"{__name__}.of_data", lambda source: (source.place, source.name)
)


def described_by(source: SourceKeys) -> Described | None:
    """What a model's source says of the model itself; None where its files must be seen first."""
    return MODEL_SOURCES[source.type].described(source)
