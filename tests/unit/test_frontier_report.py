"""A report's picture of a choice: every candidate once, the chosen one marked, all escaped."""

from __future__ import annotations

import re
from typing import Any

from slmcompile.report.facts import ReportFacts
from slmcompile.report.frontier import chosen_keys, frontiers, frontiers_markdown
from slmcompile.report.scatter import Bar, Place, scatter


def _figures(name: str, megabytes: float, value: float, *misses: str) -> dict[str, Any]:
    return {
        "name": name,
        "size_bytes": int(megabytes * 1e6),
        "value": value,
        "interval": [value - 0.05, value + 0.05],
        "nll": 0.02,
        "nll_interval": [0.01, 0.03],
        "drop": 0.9 - value,
        "difference": {"value": value - 0.9, "low": value - 0.95, "high": value - 0.85},
        "tokens_per_second": None,
        "misses": list(misses),
        "keys": {"execution_provider": "cpu", "precision": name},
    }


def _facts() -> ReportFacts:
    frontier = {
        "budget": {"metric": "exact_match", "max_drop": 0.03},
        "rows": 219,
        "chosen": "int8",
        "reason": "int8 <is> chosen",
        "torch": _figures("torch", 270, 0.9) | {"difference": None},
        "candidates": [
            _figures("int4", 87, 0.8, "falls <b>"),
            _figures("int8", 267, 0.9),
            _figures("fp32", 540, 0.9),
        ],
        "left_out": {"k<quant": "odd & wide"},
    }
    return ReportFacts(
        name="r",
        recipe={"target": {"t": {"precision": "auto"}, "given": {"precision": "int4"}}},
        frontiers={"t": frontier},
    )


def test_the_chosen_is_marked_and_those_that_miss_are_hollow() -> None:
    page = frontiers(_facts())
    places = re.findall(r'<circle class="place (\w+)" cx="([\d.]+)" cy="([\d.]+)"', page)
    assert [style for style, _, _ in places] == ["misses", "chosen", "holds"]
    # Larger is further right, better is higher.
    across = [float(x) for _, x, _ in places]
    assert across == sorted(across)
    down = [float(y) for _, _, y in places]
    assert down[0] > down[1] == down[2]
    assert "int8 (chosen)" in page


def test_what_a_recipe_names_is_escaped() -> None:
    page, text = frontiers(_facts()), frontiers_markdown(_facts())
    assert "<b>" not in page + text
    assert "k<quant" not in page + text
    assert "int8 &lt;is&gt; chosen" in page


def test_a_target_is_what_was_chosen_and_others_what_was_given() -> None:
    facts = _facts()
    assert chosen_keys(facts, "t")["precision"] == "int8"
    assert chosen_keys(facts, "given")["precision"] == "int4"
    assert frontiers(ReportFacts(name="r")) == frontiers_markdown(ReportFacts(name="r")) == ""


def test_what_stands_at_the_top_is_not_cut_off() -> None:
    places = [Place(str(number), 1 + number / 100, 1.0, (0.95, 1.0)) for number in range(4)]
    drawn = scatter("title", "description", places, [Bar(1.0, "torch")])
    heights = [float(y) for y in re.findall(r'<text class="note"[^>]* y="([\d.-]+)"', drawn)]
    assert len(heights) == 5
    assert min(heights) >= 12
