"""The sources of a data set, each with all that makes text of its rows: one, or several.

``data.source`` beside ``data.columns``, ``data.steps`` and ``data.template`` is one part; so is
each entry of ``data.sources``, which takes from ``data`` what it does not say of these itself.
Whoever reads rows goes over parts and so needs not know how the recipe writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import InitErrorDetails, PydanticCustomError

from slmcompile.data_steps import DATA_STEPS
from slmcompile.data_steps.step import StepKeys
from slmcompile.registry.markers import ByName
from slmcompile.registry.scalars import Identifier
from slmcompile.registry.section import Section
from slmcompile.shapes.splits import Split
from slmcompile.sources import DATA_SOURCES
from slmcompile.sources.keys import SourceKeys
from slmcompile.templates import TEMPLATES
from slmcompile.templates.template import TemplateKeys

AnyDataSource = Annotated[SourceKeys, ByName(DATA_SOURCES, "type")]
AnyStep = Annotated[StepKeys, ByName(DATA_STEPS, "type")]
AnyTemplate = Annotated[TemplateKeys, ByName(TEMPLATES, "type")]

_KEYS = re.compile(r"\bdata\.(source|columns|steps|template)\b")


class OneSource(Section):
    """One of several sources of rows: a slice of the data with a template of its own.

    Training rows are mixed so that shares of rows are as `weight` or `replay` says, and no row is
    used twice unless `repeat` says so. Validation and test rows are not mixed: a source's metrics
    are over its own test rows, and those of all sources together over all of them.
    """

    name: Identifier = Field(description="What reports and metrics call the source.")
    source: AnyDataSource = Field(description="Where its rows come from, as `data.source`.")
    columns: Annotated[dict[str, str], Field(max_length=256)] | None = Field(
        None, description="Its own `data.columns`; null takes that of `data`."
    )
    steps: Annotated[tuple[AnyStep, ...], Field(max_length=16)] | None = Field(
        None, description="Its own `data.steps`; null takes that of `data`."
    )
    template: AnyTemplate | None = Field(
        None, description="Its own `data.template`; null takes that of `data`."
    )
    weight: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Share of the training rows against the weights of the others: with 3 and 1"
        " three rows of four are of the first. The source that is scarcest for its weight gives all"
        " its rows and the others a seeded sample (as interleave_datasets does that stops with"
        " the first exhausted). null in all sources takes all rows of each.",
    )
    replay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of all training rows that are of this source, which is there against"
        " forgetting and not the task: it has no validation rows, as many test rows as the share"
        " says, and its metrics are told apart and enter no other.",
    )
    repeat: bool = Field(
        False,
        description="Whether training may see rows of the source more often than once where weight"
        " or replay asks for more rows than it has.",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what it takes from elsewhere or does not say."""
        found: dict[str, Any] = rest(self)
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Part:
    """One source of rows.

    Attributes:
        source: where they come from.
        columns: renames columns.
        steps: what is done with the rows before the template.
        template: how a row becomes text.
        at: the recipe's key of the part.
        keys: the recipe's key of each of these four, where it is not the one of a single source.
        name: what reports call it; empty where it is the only one.
        weight: its share of training rows against others; None takes all.
        replay: its share of all training rows; None where it is of the task.
        repeat: whether rows may be repeated to reach that.
    """

    source: SourceKeys
    columns: Mapping[str, str]
    steps: Sequence[StepKeys]
    template: TemplateKeys
    at: str = "data"
    keys: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    weight: float | None = None
    replay: float | None = None
    repeat: bool = False

    def key(self, text: str) -> str:
        """A key, or a message, of a single source (``data.source.path``) with this part's keys."""
        return _KEYS.sub(lambda found: self.keys.get(found[1], found[0]), text)

    @property
    def splits(self) -> frozenset[Split]:
        """The splits that the source brings; those missing are taken from its train rows."""
        return DATA_SOURCES[self.source.type].splits(self.source)

    @property
    def counted(self) -> bool:
        """Whether its rows are of the task, and enter its metrics."""
        return self.replay is None


def part_of(
    number: int,
    one: OneSource,
    columns: Mapping[str, str],
    steps: Sequence[StepKeys],
    template: TemplateKeys | None,
) -> Part:
    """An entry of ``data.sources``; ``columns``, ``steps`` and ``template`` are ``data``'s."""
    own = {key for key in ("columns", "steps", "template") if getattr(one, key) is not None}
    at = f"data.sources.{number}"
    written = one.template or template
    assert written is not None  # noqa: S101 (one of the two is there, as ``wrong_sources`` says)
    return Part(
        source=one.source,
        columns=columns if one.columns is None else one.columns,
        steps=steps if one.steps is None else one.steps,
        template=written,
        at=at,
        keys={key: f"{at}.{key}" for key in (*own, "source")},
        name=one.name,
        weight=one.weight,
        replay=one.replay,
        repeat=one.repeat,
    )


def wrong_sources(
    source: SourceKeys | None, template: TemplateKeys | None, sources: Sequence[OneSource]
) -> Iterator[InitErrorDetails]:
    """What disagrees between the keys of ``data`` that say this, each with its place below it."""
    if not sources:
        missing = [("source", source), ("template", template)]
        yield from (_missing(name) for name, value in missing if value is None)
        return
    if source is not None:
        yield _wrong(
            ("sources",),
            "is beside data.source, which is one source",
            "make it one of the list, or take it away: `source: null`",
        )
    names = [one.name for one in sources]
    weighed = [one.weight is not None for one in sources if one.replay is None]
    for number, one in enumerate(sources):
        at = ("sources", number)
        if one.name in names[:number]:
            other = names.index(one.name)
            yield _wrong(
                (*at, "name"), f"is the name of data.sources.{other} too", "give each its own name"
            )
        if one.template is None and template is None:
            yield _missing(*at, "template")
        if one.replay is not None and one.weight is not None:
            yield _wrong(
                (*at, "weight"),
                "is beside replay, which is a share of all training rows itself",
                "keep one of the two",
            )
        elif one.replay is None and any(weighed) and one.weight is None:
            yield _wrong(
                at,
                "has no weight, and others have one",
                "give every source a weight that is no replay, or none",
            )
        if one.repeat and one.weight is None and one.replay is None:
            yield _wrong(
                (*at, "repeat"),
                "has no effect without weight or replay: all rows are taken, once",
                "give the source a weight, or take repeat away",
            )
    yield from _wrong_replay(sources)


def wrong_labels(
    template: TemplateKeys | None, sources: Sequence[OneSource]
) -> Iterator[InitErrorDetails]:
    """Plain text in a data set whose rows have labels."""
    told: list[tuple[tuple[str | int, ...], TemplateKeys | None]] = [(("template",), template)]
    if sources:
        told = [
            (("sources", number, "template"), one.template or template)
            for number, one in enumerate(sources)
            if one.replay is None
        ]
    for at, written in told:
        if written is not None and not TEMPLATES[written.type].asks:
            yield _wrong(
                at,
                "is plain text, which has no label, and data.task or data.label says that rows do",
                "set data.task=generation and take data.label out, or make the source replay",
            )


def _wrong_replay(sources: Sequence[OneSource]) -> Iterator[InitErrorDetails]:
    shares = [one.replay for one in sources if one.replay is not None]
    if len(shares) == len(sources):
        yield _wrong(
            ("sources",),
            "are replay all of them, and there is no task to train",
            "take replay away from one",
        )
    elif sum(shares) >= 1:
        yield _wrong(
            ("sources",),
            "have a replay of {share} together, which leaves the task no rows",
            "let their shares add to less than 1",
            share=f"{sum(shares):g}",
        )


def _wrong(at: tuple[str | int, ...], what: str, mend: str, **words: Any) -> InitErrorDetails:
    error = PydanticCustomError("keys_disagree", what, {**words, "mend": mend})
    return InitErrorDetails(type=error, loc=at, input={})


def _missing(*at: str | int) -> InitErrorDetails:
    return InitErrorDetails(type="missing", loc=at, input={})
