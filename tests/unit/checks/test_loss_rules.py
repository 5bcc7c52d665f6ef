"""Rules over what is minimised: labels that are weighed are there, and no key is without effect."""

from __future__ import annotations

from typing import Any

import pytest

from slmcompile.console.errors import Exit
from slmcompile.estimate.memory import Decoder, _logits
from slmcompile.recipe.project import Project
from slmcompile.shapes.architecture import Trainable
from slmcompile.shapes.interval import exactly
from slmcompile.shapes.sizes import LOGITS_AT_ONCE
from tests.loss_files import python, write_loss
from tests.sections import train_section
from tests.unit.checks.data_contexts import data_facts
from tests.unit.checks.judging import context, judged, make

WEIGHTS = 39


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("losses"))


def facts(**labels: int) -> Any:
    return data_facts({"labels": {"train": labels, "validation": labels, "test": labels}})


def test_a_label_that_no_row_has_is_refused_with_its_place(project: Project) -> None:
    known = context(project, "train.loss.class_weights={onn: 3}")
    assert judged(known, WEIGHTS).outcome == "needs_probe"
    found = judged(known, WEIGHTS, data=facts(on=5, off=300))
    assert found.outcome == "refuted"
    assert found.evidence == "no row of the train split has the label 'onn'"
    assert found.where.endswith(": train.loss.class_weights")
    assert "'on'" in found.mend
    only_tested = judged(
        context(project, "train.loss={type: focal, class_weights: {on: 3}}"),
        WEIGHTS,
        data=facts(on=0, off=300),
    )
    assert only_tested.outcome == "refuted"


def test_labels_that_are_there_are_told_with_their_rows(project: Project) -> None:
    known = context(project, "train.loss.class_weights={on: 3}")
    found = judged(known, WEIGHTS, data=facts(on=5, off=300))
    assert (found.outcome, found.evidence) == ("proved", "weighed: on (5 rows)")
    plain = judged(context(project), WEIGHTS, data=facts(on=5))
    assert (plain.outcome, plain.evidence) == ("proved", "no label is weighed")


def test_of_more_labels_than_the_report_counts_training_decides(project: Project) -> None:
    many = facts(**{f"l{number}": 2 for number in range(200)})
    known = context(project, "train.loss.class_weights={rare: 3}")
    assert judged(known, WEIGHTS, data=many).outcome == "proved"


def test_weights_of_a_task_without_labels_are_refused_before_anything_runs(
    project: Project,
) -> None:
    known = context(project, "data.task=generation", "train.loss.class_weights={on: 3}")
    found = judged(known, WEIGHTS)
    assert (found.outcome, found.code) == ("refuted", Exit.BAD_RECIPE)
    assert found.evidence == "the task generation has no labels to weigh"
    assert "data.label" in found.mend


def test_weights_that_are_all_1_have_no_effect(project: Project) -> None:
    found = judged(context(project, "train.loss.class_weights={on: 1, off: 1.0}"), 18)
    assert found.outcome == "refuted"
    assert found.evidence.startswith("without effect: every weight is 1")
    assert judged(context(project, "train.loss.class_weights={on: 1, off: 2}"), 18).outcome == (
        "proved"
    )


def test_memory_counts_all_logits_of_a_batch_where_the_loss_sees_them_at_once() -> None:
    decoder = Decoder(30, 576, 1536, 9, 3, 64, 49_152)
    adapter, trained = Trainable((), 1000, 0, 0), exactly(4000)
    by_chunk, at_once = (
        _logits(train_section(loss=python("Mine", sees)), decoder, trained, adapter)
        for sees in ("positions", "batch")
    )
    assert by_chunk.high < 1.3 * 4 * LOGITS_AT_ONCE
    assert at_once.low > 2 * 4 * 4000 * 49_152 - 1
    assert _logits(train_section(), decoder, trained, adapter) == by_chunk


def test_a_loss_of_a_batch_of_one_row_has_no_effect(project: Project) -> None:
    write_loss(project.root)
    loss = "train.loss={type: python, file: losses/mine.py, name: Together, sees: batch}"
    found = judged(context(project, loss, "train.per_device_train_batch_size=1"), 18)
    assert found.outcome == "refuted"
    assert "a batch of one row has no other rows" in found.evidence
    assert judged(context(project, loss), 18).outcome == "proved"
