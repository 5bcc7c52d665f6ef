"""What rules read of ``data_report.json``, typed: the file may be a stranger's."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slmcompile.data.report_facts import RowFacts
from slmcompile.shapes.splits import Split

_PAIRS = {"validation_in_train", "test_in_train", "test_in_validation"}
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Rows = Annotated[int, Field(ge=1, lt=2**53)]


class _Part(BaseModel):
    """A part of the report; what no rule reads is passed over."""

    model_config = ConfigDict(defer_build=True)


class _Splits(_Part):
    train: _Rows
    validation: _Rows
    test: _Rows


class _Percentiles(_Part):
    p95: _Count


class _Length(_Part):
    min: _Count
    max: _Count
    percentiles: _Percentiles


class _Lengths(_Part):
    prompt: _Length
    answer: _Length
    total: _Length


class _Tokens(_Part):
    total: _Count
    trained: _Count


class _TokensOfSplits(_Part):
    train: _Tokens


class _TooLong(_Part):
    count: _Count


class _Dropped(_Part):
    too_long: _TooLong


class _Contradiction(_Part):
    where: tuple[str, ...]


class _Contradicting(_Part):
    count: _Count
    listed: tuple[_Contradiction, ...]


class _Divided(_Part):
    train: _Count
    validation: _Count
    test: _Count


class _Stop(_Part):
    id: int
    text: str


class _Step(_Part):
    words: Annotated[str, Field(max_length=200)]
    read: _Count
    left: _Count
    facts: Annotated[dict[str, _Count], Field(max_length=4096)]


class _Source(_Part):
    """One of several sources."""

    name: Annotated[str, Field(max_length=64)]
    divided: _Divided
    stop: _Stop


class ReportForm(_Part):
    """The report; a ValueError where something is missing or of another type or amount."""

    counts: _Splits
    read: _Rows
    dropped: _Dropped
    max_length: _Rows
    contradicting: _Contradicting
    lengths: _Lengths
    tokens: _TokensOfSplits
    stop: _Stop
    labels: Annotated[dict[Split, dict[str, _Count]], Field(max_length=3)] = {}
    steps: Annotated[tuple[_Step, ...], Field(max_length=1024)] = ()
    sources: Annotated[tuple[_Source, ...], Field(max_length=64)] = ()
    facts: RowFacts

    @model_validator(mode="after")
    def _complete(self) -> ReportForm:
        """What rules look up by name is there."""
        facts = self.facts
        if not facts.leaks_exact.keys() & facts.leaks_normalised.keys() >= _PAIRS:
            raise ValueError("leaks")
        if not facts.longest_tested or facts.longest_tested[0][0] != 1:
            raise ValueError("longest_tested")
        if self.contradicting.count and not self.contradicting.listed:
            raise ValueError("contradicting")
        return self
