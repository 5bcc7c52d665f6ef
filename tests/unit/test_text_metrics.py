"""Metrics of texts against the examples and the code of whoever defined them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.metrics import METRICS
from slmcompile.scoring.bits_per_byte import BITS_PER_BYTE
from slmcompile.scoring.fields import FIELD_F1, fields_of
from slmcompile.scoring.normalised import NORMALISED_MATCH, normal
from slmcompile.scoring.overlap import (
    BLEU_CORPUS,
    CHRF,
    ROUGE_1,
    ROUGE_2,
    ROUGE_L,
    _bleu_of,
    _bleu_terms,
)
from slmcompile.scoring.perplexity import PERPLEXITY
from slmcompile.scoring.score import measure_of


def rows(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    """Answers and references."""
    return [{"compared": answer, "reference": reference} for answer, reference in pairs]


# --- sacrebleu and rouge-score -------------------------------------------------------------------

# https://github.com/mjpost/sacrebleu#using-sacrebleu-from-python, the first set of references
DOGS = rows(
    ("The dog bit the man.", "The dog bit the man."),
    ("It wasn't surprising.", "It was not unexpected."),
    ("The man had just bitten him.", "The man bit him first."),
)


def test_bleu_and_chrf_are_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    answers, references = ([row[key] for row in DOGS] for key in ("compared", "reference"))
    assert BLEU_CORPUS.value(DOGS) == sacrebleu.corpus_bleu(answers, [references]).score
    assert CHRF.value(DOGS) == sacrebleu.corpus_chrf(answers, [references]).score
    assert 30 < BLEU_CORPUS.value(DOGS) < 50
    assert BLEU_CORPUS.value(DOGS[:1]) == pytest.approx(100)
    assert CHRF.value(DOGS[:1]) == pytest.approx(100)


words = st.lists(st.sampled_from(["the", "dog", "bit", "a", "man", ".", "first"]), max_size=9).map(
    " ".join
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_bleu_of_summed_counts_is_bleu_of_the_corpus(pairs: list[tuple[str, str]]) -> None:
    pytest.importorskip("sacrebleu")
    sums = np.asarray([_bleu_terms(row) for row in rows(*pairs)]).sum(axis=0)
    assert float(_bleu_of(sums)) == pytest.approx(BLEU_CORPUS.value(rows(*pairs)))


def test_rouge_is_rouge_scores_own_example() -> None:
    """https://github.com/google-research/google-research/tree/master/rouge, "How to run"."""
    pytest.importorskip("rouge_score")
    fox = rows(
        ("The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog")
    )
    assert ROUGE_1.value(fox) == pytest.approx(2 * (6 / 8) * (6 / 9) / (6 / 8 + 6 / 9))
    assert ROUGE_L.value(fox) == pytest.approx(2 * (5 / 8) * (5 / 9) / (5 / 8 + 5 / 9))
    assert ROUGE_2.value(fox) == pytest.approx(2 * (2 / 7) * (2 / 8) / (2 / 7 + 2 / 8))
    both = [*fox, *rows(("a b", "a b"))]
    assert ROUGE_1.value(both) == pytest.approx((ROUGE_1.value(fox) + 1) / 2), "the mean of rows"


# --- normalised match ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The  Denver Broncos!", "denver broncos"),
        ("An apple, a day", "apple day"),
        ("anteater", "anteater"),
        ("U.S.A.", "usa"),
    ],
)
def test_texts_are_normalised_as_squad_does(text: str, wanted: str) -> None:
    assert normal(text) == wanted


def test_a_match_is_one_of_words() -> None:
    found = rows(("The answer.", "answer"), ("two", "too"))
    assert NORMALISED_MATCH.value(found) == 0.5
    assert NORMALISED_MATCH.interval(found) is not None


# --- fields --------------------------------------------------------------------------------------


def test_fields_are_counted_one_by_one() -> None:
    reference = json.dumps({"intent": "on", "slots": {"room": "hall", "level": 3}, "tags": [1, 1]})
    answer = json.dumps({"intent": "on", "slots": {"room": "attic", "level": 3.0}, "tags": [1]})
    assert fields_of(reference).total() == 5
    # intent, level and one tag are right; room is wrong; one tag is missing.
    assert FIELD_F1.value(rows((answer, reference))) == pytest.approx(2 * 3 / (4 + 5))
    assert FIELD_F1.value(rows((reference, reference))) == 1.0
    assert FIELD_F1.value(rows(("no JSON", reference))) == 0.0
    assert FIELD_F1.value(rows(("{}", "{}"))) == 1.0


def test_it_is_of_all_fields_of_all_rows_and_not_the_mean_of_rows() -> None:
    small, large = json.dumps({"a": 1}), json.dumps({str(n): n for n in range(9)})
    assert FIELD_F1.value(rows((small, small), ("{}", large))) == pytest.approx(2 / (2 + 1 + 9))


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["normalised_match", "field_f1", "bleu", "rouge_1", "rouge_2", "rouge_l"]
)
def test_a_better_artifact_is_told_from_a_worse_one(name: str) -> None:
    for package in METRICS[name].packages:
        pytest.importorskip(package.replace("rouge-score", "rouge_score"))
    measure = measure_of(METRICS[name])
    good = rows(
        *[(f"turn on lamp {n} in the hall", f"turn on lamp {n} in the hall") for n in range(40)]
    )
    bad = [
        row | {"compared": "what lamp" if n % 2 else row["compared"]} for n, row in enumerate(good)
    ]
    found = measure.difference(good, bad)
    assert found is not None
    assert found.value == pytest.approx(measure.value(good) - measure.value(bad))
    assert found.low <= found.value <= found.high
    assert found.significant
    assert (
        METRICS[name].low <= measure.value(bad) < measure.value(good) <= METRICS[name].high + 1e-9
    )


# --- bits per byte -------------------------------------------------------------------------------


def likely(log_likelihood: float, length: int) -> dict[str, Any]:
    """A row as a model answered it."""
    return {"log_likelihood": log_likelihood, "reference_bytes": length}


def test_bits_per_byte_are_of_all_bytes_of_all_rows() -> None:
    # Eight bits for four bytes, two for six.
    found = [likely(-8 * math.log(2), 4), likely(-2 * math.log(2), 6)]
    assert BITS_PER_BYTE.value(found) == pytest.approx(10 / 10)
    # A model that takes every byte for as likely as any other has eight bits a byte.
    assert BITS_PER_BYTE.value([likely(5 * math.log(1 / 256), 5)]) == pytest.approx(8)


def test_they_are_perplexity_in_bits_by_tokens_a_byte() -> None:
    """The Pile's equation: BPB = (tokens / bytes) · loss / ln 2."""
    found = [likely(-3.5, 7) | {"tokens": 2}, likely(-1.25, 4) | {"tokens": 3}]
    loss = math.log(PERPLEXITY.value(found))
    assert BITS_PER_BYTE.value(found) == pytest.approx(5 / 11 * loss / math.log(2))


def test_bits_per_byte_are_compared_row_by_row() -> None:
    good = [likely(-1.0 - n % 5, 4) for n in range(40)]
    bad = [row | {"log_likelihood": row["log_likelihood"] * 1.1} for row in good]
    found = BITS_PER_BYTE.difference(good, bad)
    assert found is not None
    assert found.value == pytest.approx(BITS_PER_BYTE.value(good) - BITS_PER_BYTE.value(bad))
    assert found.low < found.value < found.high < 0
    assert found.significant
