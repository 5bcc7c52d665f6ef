"""What the jobs behind an approval say in the thread, inert and in comments of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slmcompile.ci import comment, outcome
from slmcompile.ci.outcome import Outcome
from slmcompile.ci.promoted import Merged, Promoted
from slmcompile.ci.result import RecipeResult, Record
from slmcompile.console.errors import MissingError, StaleError
from slmcompile.provenance.statement import GateResult, Statement
from tests.unit.test_ci_comment import BASE, HEAD, HOSTILE, SHA, TIP, rendered

GOLDEN = Path(__file__).with_name("ci_outcome.md")
PAGE = "https://github.example/owner/here/actions/runs/1"
METRICS = {
    "base": {"exact_match": 0.0, "perplexity": 144.0},
    "cpu-int4": {"exact_match": 0.893, "perplexity": 1.022},
    "nearest-neighbour": {"exact_match": 0.184},
    "torch": {"exact_match": 0.883, "perplexity": 1.022},
}


def statement(**changed: Any) -> Statement:
    values: dict[str, Any] = {
        "recipe": "quickstart",
        "effective": SHA,
        "digest": SHA,
        "head": HEAD,
        "base": BASE,
        "pull_request": 7,
        "approver": "ann",
        "tool": "1.0.0",
        "packages": {},
        "materials": {},
        "stages": (),
        "subjects": {},
        "gates": (GateResult("exact_match of cpu-int4 is 0.893, bar ≥ 0.6", passed=True),),
        "metrics": METRICS,
    }
    return Statement(**{**values, **changed})


def record(*recipes: RecipeResult) -> Record:
    return Record(SHA, HEAD, TIP, recipes or (RecipeResult("quickstart", 0),))


def done(**changed: Any) -> Outcome:
    values: dict[str, Any] = {
        "record": record(),
        "statements": (statement(),),
        "before": {"quickstart": statement(metrics={"torch": {"exact_match": 0.8}})},
        "commit": TIP,
        "ref": "refs/heads/mine",
    }
    return Outcome(**{**values, **changed})


MISSED = RecipeResult("quickstart", 3, "quickstart/gate: 1 of 1 gates failed", "lower the bar")
FAILED = RecipeResult("other", 65, "data/x.jsonl:2: no JSON", "save it anew")


def everything() -> list[str]:
    return [
        outcome.started("ann", PAGE),
        outcome.refused("bob: may not write to this repository; ask somebody who may to approve"),
        outcome.passed(done()),
        outcome.passed(done(before={}, ref=f"refs/slmcompile/pr/7/{TIP[:16]}")),
        outcome.failed(record(MISSED)),
        outcome.failed(record(FAILED, RecipeResult("quickstart", 0))),
        outcome.unfinished("the training ended with exit 130", PAGE),
        outcome.merged(
            Merged(
                (Promoted("a", "a@v1.0.0", "", 7), Promoted("b", "b@v1.1.0", "production", 7)), ()
            )
        ),
        outcome.merged(
            Merged((), (StaleError("quickstart/train: what was merged is not trained", "plan"),))
        ),
        outcome.unpushed(MissingError("remote pr/7: does not answer", "try again"), PAGE),
    ]


def test_each_comment_says_what_came_out_and_what_to_do_next() -> None:
    assert "\n\n---\n\n".join(everything()) == GOLDEN.read_text(encoding="utf-8")


def test_an_answer_does_not_take_the_place_of_a_result() -> None:
    """Anybody can be refused; what came of a training is not to be lost by it."""
    markers = [text.partition("\n")[0] for text in everything()]
    assert len({markers[0], markers[2], markers[7], comment.MARKER}) == 4
    assert markers[0] == markers[1] == markers[9]
    assert markers[2] == markers[4] == markers[6]


def test_a_missed_bar_is_not_to_be_lowered_in_the_same_pull_request() -> None:
    shown = outcome.failed(record(MISSED))
    assert "lower the bar" not in shown
    assert "by a pull request of its own" in shown
    assert "by a pull request of its own" not in outcome.failed(record(FAILED))


def test_figures_stand_in_the_order_of_reports() -> None:
    shown = outcome.passed(done())
    places = [shown.index(f"<code>{name}") for name in ("nearest", "base", "torch", "cpu-int4")]
    assert places == sorted(places)
    assert "0.883 (0.800)" in shown


def test_figures_that_do_not_compare_stand_alone() -> None:
    shown = outcome.passed(done(incomparable=frozenset({"quickstart"})))
    assert "0.800" not in shown
    assert "not comparable" in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_values_do_nothing(text: str) -> None:
    shown = [
        outcome.started(text, ""),
        outcome.refused(text),
        outcome.unfinished(text, ""),
        outcome.failed(record(RecipeResult("other", 65, text[:500], text[:500]))),
        outcome.passed(done(statements=(statement(gates=(GateResult(text[:500], passed=True),)),))),
        outcome.merged(Merged((), (StaleError(text, text),))),
        outcome.unpushed(StaleError(text, text), ""),
    ]
    for each in shown:
        assert {tag for tag, _ in rendered(each).tags} <= {
            "h2", "h3", "p", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td",
        }  # fmt: skip
        assert each.count("<!-- slmcompile") == 1
        assert not any(line.startswith("/") for line in each.splitlines())
