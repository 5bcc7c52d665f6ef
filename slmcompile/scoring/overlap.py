"""How much of the reference's words an answer holds: BLEU, chrF, ROUGE, as papers quote them.

BLEU (Papineni et al. 2002) and chrF (Popović 2015) of the whole corpus by sacrebleu (Post 2018,
arXiv:1804.08771), ROUGE-1, -2 and -L (Lin 2004) by rouge-score, the mean of F over rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from slmcompile.scoring.measures import Rows, Sums, ratio
from slmcompile.scoring.paired import Difference, of_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

_ORDER = 4


class _Bleu:
    """BLEU of the corpus, 0 to 100; tokenizer 13a, exponential smoothing: sacrebleu's defaults."""

    def value(self, rows: Rows) -> float:
        """As ``sacrebleu.corpus_bleu``."""
        from sacrebleu import corpus_bleu

        return float(corpus_bleu(_answers(rows), [_references(rows)]).score)

    def interval(self, rows: Rows) -> tuple[float, float] | None:  # noqa: ARG002
        """None: it is no mean over rows."""
        return None

    def difference(self, one: Rows, other: Rows) -> Difference | None:
        """By a paired bootstrap over the rows' n-gram counts (Koehn 2004)."""
        return of_sums([*map(_bleu_terms, one)], [*map(_bleu_terms, other)], _bleu_of)


def _bleu_terms(row: Mapping[str, Any]) -> list[float]:
    """Matching n-grams, n-grams, and the lengths of answer and reference, in tokens."""
    from sacrebleu import sentence_bleu

    found = sentence_bleu(str(row["compared"]), [str(row["reference"])])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def _bleu_of(sums: Floats) -> Floats:
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

    flat = sums.reshape(-1, sums.shape[-1])
    scores = [
        BLEU.compute_bleu(
            [int(n) for n in row[:_ORDER]],
            [int(n) for n in row[_ORDER : 2 * _ORDER]],
            int(row[-2]),
            int(row[-1]),
            smooth_method="exp",
        ).score
        for row in flat
    ]
    return np.asarray(scores).reshape(sums.shape[:-1])


class _Chrf:
    """chrF2 of the corpus, 0 to 100: sacrebleu's defaults."""

    def value(self, rows: Rows) -> float:
        """As ``sacrebleu.corpus_chrf``."""
        from sacrebleu import corpus_chrf

        return float(corpus_chrf(_answers(rows), [_references(rows)]).score)

    def interval(self, rows: Rows) -> tuple[float, float] | None:  # noqa: ARG002
        """None: it is no mean over rows."""
        return None

    def difference(self, one: Rows, other: Rows) -> Difference | None:  # noqa: ARG002
        """None: sacrebleu tells no row's part of it."""
        return None


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)


def _rouge(kind: str) -> Sums:
    def terms(row: Mapping[str, Any]) -> tuple[float, float]:
        found = _scorer().score(str(row["reference"]), str(row["compared"]))
        return float(found[kind].fmeasure), 1.0

    return Sums(terms, ratio)


def _answers(rows: Rows) -> list[str]:
    return [str(row["compared"]) for row in rows]


def _references(rows: Rows) -> list[str]:
    return [str(row["reference"]) for row in rows]


BLEU_CORPUS = _Bleu()
CHRF = _Chrf()
ROUGE_1 = _rouge("rouge1")
ROUGE_2 = _rouge("rouge2")
ROUGE_L = _rouge("rougeL")
