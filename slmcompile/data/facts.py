"""What the rules want to know of every row, found in the tokenized rows as they are written.

Looks at token ids and labels alone and not at how they were made, so that a mistake in the making
is found here. Judges nothing: the rules do (``slmcompile.checks``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise

from slmcompile.data.label_writings import several_writings
from slmcompile.data.labels import label_of
from slmcompile.data.normalise import normalised
from slmcompile.data.part_rows import PartRows, Texts
from slmcompile.data.render import program_of
from slmcompile.data.report_facts import RowFacts, SameIds, Stratum
from slmcompile.data.rows import Rendered, Stop
from slmcompile.data.sample import longest_of_first
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import Split

Splits = Mapping[Split, Sequence[Row]]

_PAIRS: tuple[tuple[Split, Split], ...] = (
    ("validation", "train"),
    ("test", "train"),
    ("test", "validation"),
)
_SHOWN = 60
_PATTERNS = 100
_PATTERN = 400


def row_facts(
    config: Data,
    splits: Splits,
    texts_of: Texts,
    parts: Sequence[PartRows],
    tokenizer: Tokenizer,
    *,
    too_long: Sequence[Rendered],
    strata: Stratum | None,
    same_ids: SameIds,
) -> RowFacts:
    """The facts of rows as written.

    Args:
        config: the recipe's ``data`` section.
        splits: the rows.
        texts_of: the texts that they were made from.
        parts: the rows of each source.
        tokenizer: decodes what is trained.
        too_long: what of the task was dropped as too long.
        strata: of a stratified split, its smallest stratum.
        same_ids: of ``same_ids.compare``.
    """
    every = _each_once(splits)
    read = cache(normalised)  # all rows of a long document have the whole of it for an identity
    texts = [texts_of.text(row) for row in every]
    stops = [texts_of.of(row).rendering.stop for row in every]
    counted = {split: [row for row in rows if row.counted] for split, rows in splits.items()}
    of_task = [(row, text) for row, text in zip(every, texts, strict=True) if row.counted]
    trained = [[token for token in row.labels if token != IGNORED] for row in every]
    least = min(range(len(every)), key=lambda n: len(trained[n]))
    wrong = list(_masked_otherwise(every, texts, trained, tokenizer, stops))
    doubled, doubled_at = _doubled(every, texts, tokenizer, stops)
    return RowFacts(
        least_trained=len(trained[least]),
        least_trained_at=texts[least].row.where,
        mask_differs=len(wrong),
        mask_differs_at=wrong[0] if wrong else "",
        stop_trained=sum(
            (ids[-1:] == [stop.id]) == text.ends
            for ids, text, stop in zip(trained, texts, stops, strict=True)
        ),
        pad_id=getattr(tokenizer, "pad_token_id", None),
        doubled=doubled,
        doubled_at=doubled_at,
        roles=_most_frequent(sum((Counter(rows.rendering.roles) for rows in parts), Counter())),
        leaks_exact=_leaks(
            {s: [texts_of.text(row).identity for row in rows] for s, rows in splits.items()}
        ),
        leaks_normalised=_leaks(
            {s: [read(texts_of.text(row).identity) for row in rows] for s, rows in splits.items()}
        ),
        longest_tested=tuple(
            longest_of_first(splits["test"], config.seed, labelled=config.labelled)
        ),
        labels_lost=_labels_lost([row for row, _ in of_task], too_long, config.label)
        if config.labelled
        else (),
        never_trained=_never_trained(counted) if config.labelled else {},
        strata=strata,
        given_away=sum(
            _given_away(text, texts_of.of(row)) for row, text in zip(every, texts, strict=True)
        ),
        same_ids=same_ids,
        spelled=sum(bool(text.prompt_cuts or text.completion_cuts) for text in texts),
        several_writings=several_writings(
            ((text.completion, text.row.where) for _, text in of_task), config.label
        )
        if config.labelled
        else (),
    )


def _each_once(splits: Splits) -> list[Row]:
    """All rows by id; of one that is trained several times the first."""
    found = {row.id: row for rows in splits.values() for row in rows}
    return [found[number] for number in sorted(found)]


def _most_frequent(roles: Mapping[str, int]) -> dict[str, int]:
    """Rows by pattern of roles, whose number and length the report can bear; the rest as one."""
    often = sorted(roles, key=lambda pattern: (len(pattern) > _PATTERN, -roles[pattern], pattern))
    kept = {pattern for pattern in often[:_PATTERNS] if len(pattern) <= _PATTERN}
    found = {pattern: roles[pattern] for pattern in sorted(kept)}
    if rest := sum(roles.values()) - sum(found.values()):
        found["other patterns"] = rest
    return found


def _masked_otherwise(
    rows: Sequence[Row],
    texts: Sequence[Rendered],
    trained: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    stops: Sequence[Stop],
) -> Iterator[str]:
    """Places of rows that train anything but their answers, each with its stop token.

    What a piece of a document trains is decoded behind the token that it goes on from: some
    tokenizers write no space where a text begins.
    """
    before = [row.prompt_ids if text.piece else [] for row, text in zip(rows, texts, strict=True)]
    whole = [[*ids, *more] for ids, more in zip(before, trained, strict=True)]
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    decoded = zip(
        tokenizer.batch_decode(whole, **options),
        tokenizer.batch_decode(before, **options),
        strict=True,
    )
    for row, text, stop, (both, first) in zip(rows, texts, stops, decoded, strict=True):
        found = both[len(first) :]
        earlier = "".join(text.prompt[start:end] for start, end in text.trained)
        expected = earlier + text.completion + (stop.text if text.ends else "")
        moved = any(
            label not in (IGNORED, token)
            for token, label in zip(row.input_ids, row.labels, strict=True)
        )
        if found != expected or moved:
            yield f"{text.row.where}: {found[:_SHOWN]!r} is trained, not {expected[:_SHOWN]!r}"


def _doubled(
    rows: Sequence[Row], texts: Sequence[Rendered], tokenizer: Tokenizer, stops: Sequence[Stop]
) -> tuple[dict[str, int], str]:
    """Rows in which a token that opens or ends a text stands twice side by side."""
    opening = {getattr(tokenizer, "bos_token_id", None)} - {None}
    counts = {"BOS": 0, "EOS": 0}
    first = ""
    for row, text, stop in zip(rows, texts, stops, strict=True):
        ending = {tokenizer.eos_token_id, stop.id} - opening
        twice = {one for one, other in pairwise(row.input_ids) if one == other}
        for name, ids in (("BOS", opening), ("EOS", ending)):
            if twice & ids:
                counts[name] += 1
                first = first or text.row.where
    return counts, first


def _leaks(prompts: Mapping[Split, Sequence[str]]) -> dict[str, int]:
    known = {split: set(texts) for split, texts in prompts.items()}
    return {
        f"{inner}_in_{outer}": sum(text in known[outer] for text in prompts[inner])
        for inner, outer in _PAIRS
    }


def _labels_lost(
    rows: Sequence[Row], too_long: Sequence[Rendered], key: str | None
) -> tuple[str, ...]:
    dropped = {label_of(text.completion, key) for text in too_long} - {None}
    return tuple(sorted(str(label) for label in dropped - {row.label for row in rows}))


def _never_trained(splits: Splits) -> dict[str, int]:
    trained = {row.label for row in splits["train"]}
    measured = [*splits["validation"], *splits["test"]]
    counts = Counter(row.label for row in measured if row.label not in trained)
    return dict(sorted(counts.items()))


def _given_away(text: Rendered, rows: PartRows) -> bool:
    """Whether the values in the prompt hold the whole answer, as words.

    The template's own words do not count: a prompt that lists every label gives none away.
    """
    if text.document is not None:
        return False
    answer, part = normalised(text.completion), rows.part
    columns = rows.rendering.columns
    given = program_of(part.template).given(text, part.template, part.columns, columns)
    return f" {answer} " in f" {normalised(given)} "
