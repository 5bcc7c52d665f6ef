"""What the ``data`` stage learnt from every row, as the rules read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmcompile.files.safe_read import read_output_json

_MAX_BYTES = 8 << 20

WRITINGS_SHOWN = 5
LABELS_COUNTED = 200
"""Labels that the report counts by name: of more, the most frequent."""


@dataclass(frozen=True)
class Stratum:
    """The stratum with the fewest different prompts of a stratified split.

    Attributes:
        name: its label, or its value in ``data.split.by``.
        prompts: different prompts (after normalisation) or joined rows in it.
        splits: splits that it has to be spread over.
    """

    name: str
    prompts: int
    splits: int


@dataclass(frozen=True)
class SameIds:
    """Token ids of a sample of prompts, made in each of the ways in which they are made.

    Attributes:
        prompts: prompts compared.
        served: those of them that ``prompt.json`` can write (one user turn).
        training: SHA-256 of the ids that training sees.
        serving: SHA-256 of the ids of the text that ``prompt.json`` writes.
        exported: SHA-256 of the ids that an exported folder's ``tokenizer.json`` gives.
        differs: the first difference, one line; empty where there is none.
    """

    prompts: int
    served: int
    training: str
    serving: str
    exported: str
    differs: str


@dataclass(frozen=True)
class Writing:
    """One way in which a label is written.

    Attributes:
        text: as JSON, so that white space and types show.
        rows: rows with it.
        where: the first of them.
    """

    text: str
    rows: int
    where: str


@dataclass(frozen=True)
class OneLabel:
    """A label that is written in several ways.

    Attributes:
        writings: the most frequent first.
        sure: whether it is one label for sure; else the case or form of its letters differs, which
            may be meant.
        steps: the fewest steps of ``data.normalize_labels`` that make it one.
    """

    writings: tuple[Writing, ...]
    sure: bool
    steps: tuple[str, ...]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> OneLabel:
        """As the report holds it."""
        writings = tuple(Writing(**each) for each in found["writings"])
        return cls(writings, found["sure"], tuple(found["steps"]))

    def __str__(self) -> str:
        shown = [f"{each.text} ({each.rows} rows, first {each.where})" for each in self.writings]
        more = f" and {len(shown) - WRITINGS_SHOWN} more" if len(shown) > WRITINGS_SHOWN else ""
        return ", ".join(shown[:WRITINGS_SHOWN]) + more


@dataclass(frozen=True)
class RowFacts:
    """Facts over all rows that were kept; ``data_report.json`` holds them as ``facts``.

    Places are ``file:line`` of the source, and empty where there is nothing to point at.

    Attributes:
        least_trained: trained tokens of the row that has fewest.
        least_trained_at: its place.
        mask_differs: rows whose trained tokens do not decode to answer and stop token.
        mask_differs_at: the first of them and what is trained in it.
        stop_trained: rows whose last trained token is the stop token.
        pad_id: the tokenizer's padding token.
        doubled: rows with two such tokens side by side, by ``BOS`` and ``EOS``.
        doubled_at: the first of them.
        roles: rows by pattern of roles (``user assistant``), very rare or long patterns as one;
            empty for text templates.
        leaks_exact: rows whose prompt also stands in another split, by pair
            (``test_in_train``), character by character.
        leaks_normalised: the same after case, punctuation and spacing are set aside.
        longest_tested: of every sample of the test split that ``eval.limit`` can take the longest
            answer, as (rows, tokens) with both rising: see ``slmcompile.data.sample``.
        labels_lost: labels of which too long rows, dropped, were the only ones.
        never_trained: rows of validation and test by label that train lacks; of a data set
            without labels, empty.
        strata: of a stratified split, its smallest stratum.
        given_away: rows whose prompt columns hold the whole answer.
        same_ids: the ids of training against those of serving.
        spelled: rows in which a value spells a control token, which is encoded as text.
        several_writings: labels that are written in several ways; of very many, the first.
    """

    least_trained: int
    least_trained_at: str
    mask_differs: int
    mask_differs_at: str
    stop_trained: int
    pad_id: int | None
    doubled: Mapping[str, int]
    doubled_at: str
    roles: Mapping[str, int]
    leaks_exact: Mapping[str, int]
    leaks_normalised: Mapping[str, int]
    longest_tested: tuple[tuple[int, int], ...]
    labels_lost: tuple[str, ...]
    never_trained: Mapping[str, int]
    strata: Stratum | None
    given_away: int
    same_ids: SameIds
    spelled: int
    several_writings: tuple[OneLabel, ...]


@dataclass(frozen=True)
class DataFacts:
    """Facts of the tokenized splits.

    Attributes:
        report: ``data_report.json``, or at least what the rules read of it.
    """

    report: Mapping[str, Any]

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of each split."""
        counts: Mapping[str, int] = self.report["counts"]
        return counts

    @property
    def longest(self) -> int:
        """Tokens of the longest row, prompt and answer."""
        return int(self.report["lengths"]["total"]["max"])

    @property
    def facts(self) -> RowFacts:
        """What was found row by row."""
        found = dict(self.report["facts"])
        strata = found["strata"]
        return RowFacts(
            **{
                **found,
                "longest_tested": tuple((rows, tokens) for rows, tokens in found["longest_tested"]),
                "labels_lost": tuple(found["labels_lost"]),
                "strata": Stratum(**strata) if strata else None,
                "same_ids": SameIds(**found["same_ids"]),
                "several_writings": tuple(map(OneLabel.of, found["several_writings"])),
            }
        )


def read_data_facts(folder: Path) -> DataFacts | None:
    """The facts in a ``data`` stage's output folder; ``None`` if they are not there.

    They count as not there where any has another type or amount than the stage could have written:
    the folder may be a stranger's.
    """
    # Here, as plans of what has not run yet need no types of it.
    from slmcompile.data.report_form import ReportForm

    try:
        # pydantic's own parser of JSON would take a kilobyte for each pair of brackets.
        report = ReportForm.model_validate(read_output_json(folder, "data_report.json", _MAX_BYTES))
    except ValueError:
        return None
    return DataFacts(report.model_dump())
