"""Types of recipe keys that are made from a table when the schema is built.

To mypy a name out of a table is a ``str`` and a section a subclass of what is annotated; pydantic
asks the marker, and so knows every entry, and no others, with its own error types and JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, eq=False)  # as below: it may be a member of a union
class NameIn:
    """A ``str`` that names an entry: ``Annotated[str, NameIn(METRICS)]``.

    Attributes:
        table: the table.
        chosen: which of its entries may be named; all by default.
        also: what may be written beside them.
    """

    table: Mapping[str, Any]
    chosen: Callable[[Any], bool] = lambda _: True
    also: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """What may be written."""
        return [*self.also, *(name for name, entry in self.table.items() if self.chosen(entry))]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """As ``Literal`` of the names."""
        return core_schema.literal_schema(self.names())


@dataclass(frozen=True, eq=False)  # hashed by itself, as a union's members are
class ByName:
    """A section of the entry that one of its keys names.

    ``Annotated[Train, ByName(METHODS, "method", default="lora")]``: every entry of the table has a
    ``section``, a subclass of what is annotated.

    With a default the entries are variations of one section: where none is named, or one that does
    not exist, it is the default's keys that are judged. Without one they have nothing in common,
    and a section that names none is refused as such.

    Attributes:
        table: the table.
        key: the key that names the entry.
        default: the entry where the key is not given; empty where it must be.
        apart: whether JSON Schema has one of their objects though there is a default: inside of a
            section that is itself one of several, their keys are not there yet to be joined.
    """

    table: Mapping[str, Any]
    key: str
    default: str = ""
    apart: bool = False

    def sections(self) -> dict[str, type[BaseModel]]:
        """The section of each entry."""
        return {name: entry.section for name, entry in self.table.items()}

    def chosen(self, value: Any) -> str:
        """The entry that a section's values name, or else the default."""
        name = value.get(self.key) if isinstance(value, Mapping) else getattr(value, self.key, None)
        return name if isinstance(name, str) and name in self.table else self.default

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A union that is told apart by the key."""
        if not self.default:
            kinds = {name: handler.generate_schema(kind) for name, kind in self.sections().items()}
            return core_schema.tagged_union_schema(kinds, self.key)
        choices = {
            self._tag(name): handler.generate_schema(kind) for name, kind in self.sections().items()
        }
        return core_schema.tagged_union_schema(choices, lambda value: self._tag(self.chosen(value)))

    def _tag(self, name: str) -> str:
        """As pydantic puts it into the place of an error; no key of a recipe looks like it."""
        return f"{self.key}={name}"

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """One object with the keys of all entries: what an editor completes before it is chosen.

        Without a default, or apart: one of their objects.
        """
        if not self.default or self.apart:
            return handler(schema)
        sections = [handler.resolve_ref_schema(kind) for kind in handler(schema)["oneOf"]]
        meanings: dict[str, list[JsonSchemaValue]] = {}
        for section in sections:
            for key, below in section["properties"].items():
                told = meanings.setdefault(key, [])
                # What a key is by default is its entry's, and so nothing of all of them.
                same = {**below, "default": None}
                known = next((each for each in told if {**each, "default": None} == same), None)
                if known is None:
                    told.append(dict(below))
                elif known.get("default") != below.get("default"):
                    known.pop("default", None)
        properties = {
            key: told[0] if len(told) == 1 else {"anyOf": told} for key, told in meanings.items()
        }
        return {**sections[0], "properties": properties}


def by_name(annotation: Any, metadata: Iterable[Any] = ()) -> ByName | None:
    """The marker of a type whose sections a table gives."""
    inside = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((each for each in (*metadata, *inside) if isinstance(each, ByName)), None)


def sections_of(annotation: Any, metadata: Iterable[Any] = ()) -> list[type[BaseModel]]:
    """The sections of which one may stand where a type is annotated, those of a table included."""
    marker = by_name(annotation, metadata)
    if marker:
        return list(marker.sections().values())
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return sections_of(arguments[0])
    if origin in {Union, UnionType}:
        return [section for part in arguments for section in sections_of(part)]
    return [annotation] if _is_section(annotation) else []


def sections_within(annotation: Any, metadata: Iterable[Any] = ()) -> list[type[BaseModel]]:
    """The same with those that a list or a mapping holds."""
    found = sections_of(annotation, metadata)
    return found or [section for part in get_args(annotation) for section in sections_within(part)]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
