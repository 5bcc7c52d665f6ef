"""Reports and cards name the loss where it is not the default, and compare what compares."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from slmcompile.report.build import build
from slmcompile.report.method import fine_tuned
from tests.unit.test_report import sample

LORA = {"method": "lora", "lora": {"r": 16}}


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({}, "fine-tuned with LoRA (rank 16)"),
        (
            {"loss": {"type": "focal", "gamma": 2.0, "class_weights": {}}},
            "fine-tuned with LoRA (rank 16) by focal loss (gamma 2)",
        ),
        (
            {
                "loss": {
                    "type": "cross_entropy",
                    "label_smoothing": 0.1,
                    "class_weights": {"a": 2.0},
                }
            },
            "fine-tuned with LoRA (rank 16) by cross entropy with label smoothing 0.1 and class"
            " weights a 2",
        ),
        (
            {"loss": {"type": "focal", "gamma": 1.0, "class_weights": dict.fromkeys("abcd", 2.0)}},
            "fine-tuned with LoRA (rank 16) by focal loss (gamma 1) with class weights of 4 labels",
        ),
        (
            {"loss": {"type": "python", "file": "losses/x.py", "name": "X", "options": {"m": 0.5}}},
            "fine-tuned with LoRA (rank 16) by X of losses/x.py (m 0.5)",
        ),
        ({"loss": {"type": "of another version"}}, "fine-tuned with LoRA (rank 16)"),
        ({"loss": "nonsense"}, "fine-tuned with LoRA (rank 16)"),
    ],
)
def test_the_loss_is_named_in_words(loss: dict[str, Any], said: str) -> None:
    assert fine_tuned({**LORA, **loss}) == said


def test_what_is_drawn_beside_validation_is_cross_entropy() -> None:
    told = "X of losses/<b>.py"
    facts = sample()
    plain = page(facts)
    assert "Loss over optimizer steps" in plain
    assert "Minimised" not in plain
    curve = [{**point, "cross_entropy": point["loss"] / 2} for point in facts.training["curve"]]
    other = page(replace(facts, training={**facts.training, "curve": curve, "objective": told}))
    assert "Cross entropy over optimizer steps" in other
    assert "Loss over optimizer steps" not in other
    assert f"Minimised: {told}" in unescape(other)
    assert "<b>.py" not in other, "words of a recipe are text"


def page(facts: Any) -> str:
    """The HTML report."""
    return next(text for name, text in build(facts).items() if name.endswith(".html"))
