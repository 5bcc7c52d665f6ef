"""The choice among a target's candidates is the smallest that holds the budget, by numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slmcompile.metrics import METRICS
from slmcompile.providers.keys import Budget
from slmcompile.scoring.choice import Figures, chosen, figures, judged
from slmcompile.scoring.paired import mcnemar

EXACT = METRICS["exact_match"]


def answers(right: int, of: int = 100, nats: float = 0.1) -> list[dict[str, Any]]:
    """Records of which the first are right; every reference has four tokens."""
    return [
        {
            "id": at,
            "correct": at < right,
            "compared": "a" if at < right else "b",
            "prediction": "a" if at < right else "b",
            "reference": "a",
            "log_likelihood": -4 * nats,
            "tokens": 4,
        }
        for at in range(of)
    ]


def measured(name: str, right: int, size: float, nats: float = 0.1, **more: Any) -> Figures:
    torch = answers(90)
    return figures(name, answers(right, nats=nats), {"size_bytes": int(size * 1e6), **more}, EXACT,
                   torch)  # fmt: skip


FRONTIER = [
    measured("block-128", 80, 80.0, 0.4, tokens_per_second=221.0),
    measured("default", 85, 87.0, 0.3, tokens_per_second=209.0),
    measured("asymmetric", 87, 89.0, 0.2, tokens_per_second=212.0),
    measured("int8", 91, 267.0, 0.1, tokens_per_second=136.0),
]


def pick(**bars: Any) -> str | None:
    budget = Budget(**{"metric": "exact_match", "max_drop": 0.03, **bars})
    best = chosen(judged(FRONTIER, budget))
    return best.name if best else None


@pytest.mark.parametrize(
    ("bars", "wanted"),
    [
        ({}, "asymmetric"),
        ({"max_drop": 0.1}, "block-128"),
        ({"max_drop": 0.05}, "default"),
        ({"max_drop": 0.0}, "int8"),
        ({"max_size": 100.0}, "asymmetric"),
        ({"max_size": 88.0}, None),
        ({"min_tokens_per_s": 212.0}, "asymmetric"),
        ({"min_tokens_per_s": 213.0}, None),
        ({"min_tokens_per_s": 213.0, "max_drop": 0.2}, "block-128"),
    ],
)
def test_the_smallest_that_holds_every_bar_is_chosen(
    bars: dict[str, Any], wanted: str | None
) -> None:
    assert pick(**bars) == wanted


def test_what_is_missed_is_said_with_how_much() -> None:
    budget = Budget(metric="exact_match", max_drop=0.03, max_size=85.0, min_tokens_per_s=215.0)
    told = {each.name: each.misses for each in judged(FRONTIER, budget)}
    assert told["block-128"] == ("exact_match 0.8 is 0.1 worse, 0.07 more than max_drop 0.03",)
    assert told["asymmetric"] == (
        "89.0 MB, 4.0 more than max_size 85",
        "212.0 tokens/s, 3.0 less than min_tokens_per_s 215",
    )
    assert len(told["int8"]) == 2


def test_a_speed_that_nobody_measured_holds_no_bar_on_it() -> None:
    (found,) = judged([measured("a", 90, 1.0)], Budget(metric="exact_match", min_tokens_per_s=1.0))
    assert found.misses == ("its speed is not measured here, and min_tokens_per_s is 1",)


def test_equal_sizes_fall_to_speed_then_to_the_metric_then_to_likelihood_then_to_the_name() -> None:
    budget = Budget(metric="exact_match", max_drop=0.5)
    a = measured("a", 90, 10.0, 0.2)

    def first(*others: Figures) -> str:
        for order in ([a, *others], [*others, a]):
            best = chosen(judged(order, budget))
            assert best is not None
        return best.name

    assert first(replace(a, name="b")) == "a"
    assert first(replace(a, name="b", nll=0.1)) == "b"
    assert first(replace(a, name="b", nll=0.1, value=0.8)) == "a"
    assert first(replace(a, name="b", value=0.8, tokens_per_second=5.0)) == "b"


def test_of_a_metric_that_is_better_when_lower_a_rise_is_the_loss() -> None:
    perplexity = METRICS["perplexity"]
    torch = answers(90, nats=0.1)
    found = figures("a", answers(90, nats=0.3), {"size_bytes": 1}, perplexity, torch)
    assert found.drop == pytest.approx(1.349859 - 1.105171, abs=1e-5)
    budget = Budget(metric="perplexity", max_drop=0.2)
    assert judged([found], budget)[0].misses
    assert not judged([found], budget.model_copy(update={"max_drop": 0.25}))[0].misses


def test_figures_are_those_of_the_rows_with_intervals_around_them() -> None:
    found = measured("a", 80, 12.5, 0.3)
    assert (found.value, found.drop, found.size_bytes) == (0.8, 0.1, 12_500_000)
    assert found.nll == pytest.approx(0.3)
    assert found.interval is not None
    assert found.interval[0] < 0.8 < found.interval[1]
    assert found.difference is not None
    assert found.difference.p == mcnemar(0, 10)
    mixed = answers(90)
    for at, row in enumerate(mixed):
        row["log_likelihood"] = -4.0 if at % 2 else 0.0
    nll = figures("a", mixed, {"size_bytes": 1}, EXACT, answers(90))
    assert nll.nll == pytest.approx(0.5)
    assert nll.nll_interval is not None
    low, high = nll.nll_interval
    # A mean of 100 coins: 1.96 standard errors are 0.098.
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)
    assert nll == figures("a", mixed, {"size_bytes": 1}, EXACT, answers(90))


def test_the_frontier_is_what_no_other_is_as_small_and_as_likely_as() -> None:
    worse = measured("worse", 91, 300.0, 0.2)
    found = judged([*FRONTIER, worse], Budget(metric="exact_match", max_drop=1.0))
    assert {each.name: each.best for each in found} == {
        "block-128": True,
        "default": True,
        "asymmetric": True,
        "int8": True,
        "worse": False,
    }
