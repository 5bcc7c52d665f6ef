"""The sources of a data set, each with all that makes text of its rows: one, or several.

``data.source`` beside ``data.columns``, ``data.steps`` and ``data.template`` is one part; whoever
reads rows goes over parts and so needs not know how the recipe writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slmcompile.data_steps.step import StepKeys
from slmcompile.shapes.splits import Split
from slmcompile.sources import DATA_SOURCES
from slmcompile.sources.keys import SourceKeys
from slmcompile.templates.template import TemplateKeys

_KEYS = re.compile(r"\bdata\.(source|columns|steps|template)\b")


@dataclass(frozen=True)
class Part:
    """One source of rows.

    Attributes:
        source: where they come from.
        columns: renames columns.
        steps: what is done with the rows before the template.
        template: how a row becomes text.
        keys: the recipe's key of each of these four, where it is not the one of a single source.
    """

    source: SourceKeys
    columns: Mapping[str, str]
    steps: Sequence[StepKeys]
    template: TemplateKeys
    keys: Mapping[str, str]

    def key(self, key: str) -> str:
        """The recipe's key for ``data.source.path`` and the like of a single source."""
        return _KEYS.sub(lambda found: self.keys.get(found[1], found[0]), key)

    @property
    def splits(self) -> frozenset[Split]:
        """The splits that the source brings; those missing are taken from its train rows."""
        return DATA_SOURCES[self.source.type].splits(self.source)
