"""What the rules want to know of all rows together: sums and firsts of what was found in each.

Judges nothing: the rules do (``slmcompile.checks``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from slmcompile.data.examples_of import Examples, Numbers
from slmcompile.data.label_writings import of_writings
from slmcompile.data.report_facts import RowFacts, SameIds, Stratum
from slmcompile.data.row_facts import BOS, EOS, GIVEN, SPELLED, STOP
from slmcompile.data.row_keys import Digests
from slmcompile.data.sample import Tested, digest, longest_of_first
from slmcompile.data.tokenizer import Tokenizer
from slmcompile.recipe.schema import Data
from slmcompile.shapes.splits import Split

Splits = Mapping[Split, Numbers]

_PAIRS: tuple[tuple[Split, Split], ...] = (
    ("validation", "train"),
    ("test", "train"),
    ("test", "validation"),
)
_PATTERNS = 100
_PATTERN = 400


def row_facts(
    config: Data,
    examples: Examples,
    splits: Splits,
    tokenizer: Tokenizer,
    *,
    too_long: Numbers,
    strata: Stratum | None,
    same_ids: SameIds,
) -> RowFacts:
    """The facts of rows as written.

    Args:
        config: the recipe's ``data`` section.
        examples: all there are.
        splits: those that are written.
        tokenizer: the base model's.
        too_long: those that were dropped as too long.
        strata: of a stratified split, its smallest stratum.
        same_ids: of ``same_ids.compare_all``.
    """
    every = each_once(splits)
    trained = examples.columns["trained"][every]
    least = int(np.argmin(trained))
    wrong = np.intersect1d(every, list(examples.gathered.wrong)).astype(np.int64)
    bos, eos = (examples.flagged(every, flag) for flag in (BOS, EOS))
    doubled = np.flatnonzero(bos | eos)
    rendered = [rows.rendering.roles for rows in examples.parts]
    labelled = config.labelled
    return RowFacts(
        least_trained=int(trained[least]),
        least_trained_at=examples.where(int(every[least])),
        mask_differs=len(wrong),
        mask_differs_at=examples.gathered.wrong[int(wrong[0])] if len(wrong) else "",
        stop_trained=int(examples.flagged(every, STOP).sum()),
        pad_id=getattr(tokenizer, "pad_token_id", None),
        doubled={"BOS": int(bos.sum()), "EOS": int(eos.sum())},
        doubled_at=examples.where(int(every[doubled[0]])) if len(doubled) else "",
        roles=_most_frequent(sum(map(Counter, rendered), Counter())),
        leaks_exact=_leaks(examples.columns["prompt"], splits),
        leaks_normalised=_leaks(examples.columns["normal"], splits),
        longest_tested=tuple(
            longest_of_first(_tested(examples, splits["test"], config.seed, labelled=labelled))
        ),
        labels_lost=_labels_lost(examples, every, too_long) if labelled else (),
        never_trained=_never_trained(examples, splits) if labelled else {},
        strata=strata,
        given_away=int(examples.flagged(every, GIVEN).sum()),
        same_ids=same_ids,
        spelled=int(examples.flagged(every, SPELLED).sum()),
        several_writings=of_writings(_writings(examples, every)) if labelled else (),
    )


def each_once(splits: Splits) -> Numbers:
    """All examples that are written, in their order; what is trained several times once."""
    found: Numbers = np.unique(np.concatenate(list(splits.values())))
    return found


def _most_frequent(roles: Mapping[str, int]) -> dict[str, int]:
    """Rows by pattern of roles, whose number and length the report can bear; the rest as one."""
    often = sorted(roles, key=lambda pattern: (len(pattern) > _PATTERN, -roles[pattern], pattern))
    kept = {pattern for pattern in often[:_PATTERNS] if len(pattern) <= _PATTERN}
    found = {pattern: roles[pattern] for pattern in sorted(kept)}
    if rest := sum(roles.values()) - sum(found.values()):
        found["other patterns"] = rest
    return found


def _leaks(prompts: Digests, splits: Splits) -> dict[str, int]:
    """Rows of a split whose prompt also stands in another, by pair."""
    known = {split: _scalars(prompts[numbers]) for split, numbers in splits.items()}
    return {
        f"{inner}_in_{outer}": int(np.isin(known[inner], known[outer]).sum())
        for inner, outer in _PAIRS
    }


def _scalars(digests: Digests) -> Numbers:
    """Digests of two numbers each as values that can be looked up."""
    pairs = np.ascontiguousarray(digests)
    found: Numbers = pairs.view([("", pairs.dtype)] * pairs.shape[1]).reshape(-1)
    return found


def _tested(examples: Examples, numbers: Numbers, seed: int, *, labelled: bool) -> Iterator[Tested]:
    """The rows of the task that are tested."""
    names = examples.name("label") if labelled else ()
    for number in examples.counted(numbers).tolist():
        text = examples.text(number)
        columns = examples.columns
        asked = text.document is None
        tokens = int(columns["tokens"][number]) - int(columns["prompt_tokens"][number]) - 1
        yield Tested(
            (
                examples.part(number).part.name,
                names[int(columns["label"][number])] if labelled else "",
            ),
            digest(seed, text.prompt, text.completion),
            tokens if asked else 0,
        )


def _labels_lost(examples: Examples, every: Numbers, too_long: Numbers) -> tuple[str, ...]:
    names, codes = examples.name("label"), examples.columns["label"]
    lost = set(codes[examples.counted(too_long)].tolist())
    lost -= {-1, *codes[examples.counted(every)].tolist()}
    return tuple(sorted(names[code] for code in lost))


def _never_trained(examples: Examples, splits: Splits) -> dict[str, int]:
    names, codes = examples.name("label"), examples.columns["label"]
    trained = set(codes[examples.counted(splits["train"])].tolist())
    measured = np.concatenate([splits["validation"], splits["test"]])
    counts = Counter(codes[examples.counted(measured)].tolist())
    return dict(sorted((names[code], n) for code, n in counts.items() if code not in trained))


def _writings(examples: Examples, every: Numbers) -> Iterator[tuple[str, int, str]]:
    """How labels of the task are written, how often, and where first; in order of appearance."""
    numbers = examples.counted(every)
    names, codes = examples.name("writing"), examples.columns["writing"][numbers]
    found, first, counts = np.unique(codes, return_index=True, return_counts=True)
    for at in np.argsort(first).tolist():
        place = examples.where(int(numbers[first[at]]))
        yield names[int(found[at])], int(counts[at]), place
