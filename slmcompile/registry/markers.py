"""Types of recipe keys that are made from a table when the schema is built.

To mypy a name out of a table is a ``str`` and a section a subclass of what is annotated; pydantic
asks the marker, and so knows every entry, and no others, with its own error types and JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class NameIn:
    """A ``str`` that names an entry: ``Annotated[str, NameIn(METRICS)]``.

    Attributes:
        table: the table.
        chosen: which of its entries may be named; all by default.
    """

    table: Mapping[str, Any]
    chosen: Callable[[Any], bool] = lambda _: True

    def names(self) -> list[str]:
        """What may be written."""
        return [name for name, entry in self.table.items() if self.chosen(entry)]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """As ``Literal`` of the names."""
        return core_schema.literal_schema(self.names())
