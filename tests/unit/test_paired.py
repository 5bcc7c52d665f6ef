"""Paired tests against published figures, and that they see what intervals side by side do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from slmcompile.metrics import METRICS
from slmcompile.recipe.schema import Gate
from slmcompile.scoring.classification import F1_MACRO
from slmcompile.scoring.compared import agreement, compared, comparisons, p_text
from slmcompile.scoring.confidence import wilson
from slmcompile.scoring.gates import judge
from slmcompile.scoring.paired import mcnemar, newcombe, of_f1, of_perplexity, of_right
from slmcompile.scoring.perplexity import perplexity
from slmcompile.scoring.score import OF_ANSWERS, score


@pytest.mark.parametrize(("one", "other", "p"), [
    # The example in statsmodels' documentation of mcnemar(exact=True), after Edwards: 121 and 59.
    (121, 59, 4.434444e-06),
    # scipy.stats.binomtest(k, n, 0.5).pvalue
    (8, 0, 0.0078125), (5, 3, 0.7265625), (10, 2, 0.03857421875), (0, 0, 1.0), (4, 4, 1.0),
])  # fmt: skip
def test_mcnemar_gives_the_published_p(one: int, other: int, p: float) -> None:
    assert mcnemar(one, other) == pytest.approx(p, rel=1e-5)
    assert mcnemar(other, one) == mcnemar(one, other)


def test_mcnemar_takes_more_rows_than_a_float_has_exponents() -> None:
    assert mcnemar(1500, 1500) == 1.0
    assert 0 < mcnemar(1600, 1400) < 0.001
    assert mcnemar(20_000, 20_000) == 1.0  # at once, as each way is made of the one before


def test_the_interval_is_the_published_one() -> None:
    """Newcombe 1998, table III: cells 36, 12, 2, 0 by method 10."""
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_eight_rows_to_none_are_no_chance_though_the_intervals_overlap() -> None:
    one, other = [True] * 108 + [False] * 12, [True] * 100 + [False] * 20
    assert wilson(100 / 120, 120)[1] > wilson(108 / 120, 120)[0]
    found = of_right(one, other)
    assert (found.only_one, found.only_other) == (8, 0)
    assert found.significant
    assert found.p == pytest.approx(0.0078125)
    assert found.value == pytest.approx(8 / 120)
    assert 0 < found.low < found.value < found.high < 0.13
    back = of_right(other, one)
    assert (back.value, back.p) == (-found.value, found.p)


def test_equal_answers_differ_by_nothing() -> None:
    labels = ["a", "b", "c"] * 10
    for found in (
        of_right([True, False] * 20, [True, False] * 20),
        of_f1(labels, labels, labels),
        of_perplexity([(-1.0, 2)] * 9, [(-1.0, 2)] * 9),
    ):
        assert (found.value, found.p, found.significant) == (0, 1, False)


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_few_rows_that_differ_prove_nothing(rows: int) -> None:
    """Every resample of five better rows is better; so is one of 16 tosses of five coins."""
    same = [(-1.0, 2)] * 30
    worse, better = [(-9.0, 2)] * rows + same, [(-1.0, 2)] * rows + same
    assert of_perplexity([(-9.0, 2)] * rows, [(-1.0, 2)] * rows).p >= 2.0 ** (1 - rows)
    assert not of_perplexity(worse, better).significant
    wrong, right = ["b"] * rows + ["b"] * 30, ["a"] * rows + ["b"] * 30
    assert of_f1(wrong, right, right).p >= 2.0 ** (1 - rows)


def test_f1_is_resampled_as_it_is_computed() -> None:
    references = [f"c{n % 4}" for n in range(80)]
    good = [r if n % 10 else "c0" for n, r in enumerate(references)]
    bad = [r if n % 2 else None if n % 3 else "c9" for n, r in enumerate(references)]
    found = of_f1(good, bad, references)
    assert found.value == pytest.approx(f1_macro(good, references) - f1_macro(bad, references))
    assert 0 < found.low < found.value < found.high
    assert found.significant
    assert found == of_f1(good, bad, references), "seeded"


def test_the_interval_of_f1_is_that_of_rows_drawn_one_by_one() -> None:
    references = [f"c{n % 3}" for n in range(60)]
    one = [r if n % 7 else "c0" for n, r in enumerate(references)]
    other = [r if n % 4 else "c1" for n, r in enumerate(references)]
    found = of_f1(one, other, references)
    chance, drawn = np.random.default_rng(5), []
    for _ in range(2000):
        rows = chance.integers(0, 60, 60)
        wanted = [references[n] for n in rows]
        drawn.append(
            f1_macro([one[n] for n in rows], wanted) - f1_macro([other[n] for n in rows], wanted)
        )
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_perplexity_is_compared_row_by_row_and_not_by_its_spread() -> None:
    """Rows differ by far more from each other than the two models on any of them."""
    chance = np.random.default_rng(1)
    rows = [(-float(x), int(n)) for x, n in zip(chance.gamma(2, 9, 60), [3, 5] * 30, strict=True)]
    worse = [(total * 1.02 - 0.01, tokens) for total, tokens in rows]
    found = of_perplexity(worse, rows)
    totals = [[sum(part) for part in zip(*each, strict=True)] for each in (worse, rows)]
    expected = [perplexity(total, int(tokens)) for total, tokens in totals]
    assert found.value == pytest.approx(expected[0] - expected[1])
    assert 0 < found.low < found.value < found.high
    assert found.significant


def test_a_difference_that_chance_explains_is_not_significant() -> None:
    assert not of_right(
        [True] * 5 + [False] * 3 + [True] * 92, [False] * 5 + [True] * 95
    ).significant


# --- from the rows that evaluations leave ------------------------------------------------------


def answered(
    answers: list[str], references: list[str], likelihood: float = -1.0
) -> list[dict[str, Any]]:
    """Rows as ``score`` writes them, of answers that are labels; an empty one was cut off."""
    return [
        {
            "id": n,
            "reference": reference,
            "prediction": answer,
            "compared": answer.strip(),
            "correct": answer.strip() == reference,
            "schema_valid": answer.strip() == reference,
            "label": reference,
            "predicted_label": answer.strip(),
            "cut_off": not answer,
            "log_likelihood": likelihood * (1 + n % 5),
            "tokens": 3,
            "reference_bytes": 2,
        }
        for n, (answer, reference) in enumerate(zip(answers, references, strict=True))
    ]


def scored(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of rows, as ``score`` computes them."""
    return dict(score(rows, METRICS.values(), (*OF_ANSWERS, "ending", "likelihood")))


REFERENCES = [str(n % 4) for n in range(80)]
GOOD = answered([r if n % 10 else "0" for n, r in enumerate(REFERENCES)], REFERENCES, -0.5)
BAD = answered(
    [r if n % 2 else "" if n % 3 else "nine" for n, r in enumerate(REFERENCES)], REFERENCES
)


def f1_macro(predictions: Sequence[str | None], references: Sequence[str]) -> float:
    """Of labels."""
    pairs = zip(predictions, references, strict=True)
    return F1_MACRO.value([{"predicted_label": one, "label": other} for one, other in pairs])


UNPAIRED = {"f1_lowest", "chrf"}
"""Of these nothing is known of chance, row by row."""


@pytest.mark.parametrize("metric", sorted({*METRICS} - UNPAIRED))
def test_every_metric_is_compared_by_the_rows_that_it_is_computed_from(metric: str) -> None:
    found = compared(metric, GOOD, BAD)
    assert found is not None
    assert found.value == pytest.approx(scored(GOOD)[metric] - scored(BAD)[metric])
    assert found.low <= found.value <= found.high
    assert found.significant == (found.value != 0)
    back = compared(metric, BAD, GOOD)
    assert back is not None
    assert back.value == pytest.approx(-found.value)
    assert compared(metric, GOOD, BAD[:-1]) is None, "other rows"


def test_exports_are_held_against_torch_and_torch_against_the_rest() -> None:
    measured = {"torch": scored(GOOD), "cpu-int4": scored(BAD), "tf-idf": {"accuracy": 0.5}}
    answers = {"torch": GOOD, "cpu-int4": BAD, "tf-idf": BAD}
    found = comparisons(measured, answers, ["cpu-int4"])
    assert {(each.one, each.other) for each in found} == {
        ("cpu-int4", "torch"),
        ("torch", "tf-idf"),
    }
    assert [each.metric for each in found if each.other == "tf-idf"] == ["accuracy"]
    assert len(found) == len(METRICS) - len(UNPAIRED) + 1


def test_agreement_is_of_the_texts_of_all_answers() -> None:
    assert agreement(GOOD, GOOD) == 1.0
    other = answered([f" {row['prediction']}" for row in GOOD[:-20]] + ["?"] * 20, REFERENCES)
    assert agreement(other, GOOD) == 0.75
    assert agreement(other[1:], GOOD) is None


def test_a_bar_on_a_drop_is_told_row_by_row_and_held_against_the_figures() -> None:
    measured = {"torch": scored(GOOD), "cpu-int4": scored(BAD)}
    found = comparisons(measured, {"torch": GOOD, "cpu-int4": BAD}, ["cpu-int4"])
    gates = [Gate(metric="exact_match", artifact="cpu-int4", max_drop=drop) for drop in (0.1, 0.9)]
    verdicts = judge([*gates, Gate(metric="exact_match", min=0.5)], measured, found)
    assert [each.passed for each in verdicts] == [False, True, True]
    dropped, _, bar = verdicts
    assert dropped.difference == compared("exact_match", BAD, GOOD)
    assert "; row by row -0." in dropped.text
    assert dropped.text.endswith("p < .001")
    assert bar.difference is None
    assert judge(gates, measured)[0].difference is None


def test_answers_cut_off_are_open_to_gates() -> None:
    measured = {"torch": scored(GOOD) | {"cut_off": 1 / 80}}
    (verdict,) = judge([Gate(metric="cut_off", max=0.0)], measured)
    assert not verdict.passed
    assert verdict.text == "cut_off of torch is 0.0125, bar ≤ 0"


@pytest.mark.parametrize(("p", "words"), [
    (0.0078125, "p = .008"), (0.7265625, "p = .73"), (0.04999, "p = .050"), (0.0997, "p = .10"),
    (1.0, "p = 1"), (0.999, "p = 1"), (0.0004, "p < .001"), (0.385, "p = .39"),
])  # fmt: skip
def test_p_is_written_as_the_field_writes_it(p: float, words: str) -> None:
    assert p_text(p) == words
