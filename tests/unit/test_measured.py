"""Times are told by earlier runs here: by the nearest in work, as a range where that is far."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slmcompile import api
from slmcompile.estimate.earlier_runs import Work, earlier_runs, seconds_of
from slmcompile.estimate.time import cost_line
from slmcompile.execution.sync import compile_recipe
from slmcompile.plans.definition import Stage
from slmcompile.recipe.project import Project
from slmcompile.shapes.interval import Interval, exactly
from tests.projects import make_project

FULL = Work(tokens=15_000, parameters=100_000, full=False)
SHORT = Work(tokens=200, parameters=100_000, full=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve(), data=("tiny",)))


def stage(project: Project, name: str) -> Stage:
    return next(each for each in compile_recipe(project, "tiny", ()).stages() if each.name == name)


def ran(seconds: float, work: Work | None = None, name: str = "tiny/train") -> dict[str, Any]:
    known = {"tokens": work.tokens, "total_parameters": work.parameters} if work else {}
    return {"stage": name, "seconds": seconds, "trainable_parameters": 0, **known}


def train_time(project: Project, work: Work | None, *entries: dict[str, Any]) -> Interval | None:
    journal = project.scratch / "journal.jsonl"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return seconds_of(earlier_runs(project), stage(project, "train"), work)


def test_a_short_run_does_not_change_what_a_full_one_takes(project: Project) -> None:
    assert train_time(project, FULL, ran(40, FULL), ran(9, SHORT)) == exactly(40)
    assert train_time(project, SHORT, ran(40, FULL), ran(9, SHORT)) == exactly(9)


def test_from_a_run_of_other_length_alone_the_time_is_a_range(project: Project) -> None:
    assert train_time(project, FULL, ran(9, SHORT)) == Interval(9, 9 * 75)
    assert train_time(project, SHORT, ran(40, FULL)) == Interval(40 * (200 / 15_000), 40)


def test_one_slow_run_is_outvoted(project: Project) -> None:
    assert train_time(project, FULL, *(ran(each, FULL) for each in (41, 400, 40))) == exactly(41)


def test_without_the_amounts_only_the_stages_own_times_count(project: Project) -> None:
    assert train_time(project, None, ran(40, FULL)) == exactly(40)
    assert train_time(project, FULL, ran(40, None, "other/train")) is None


def test_times_with_another_base_model_tell_nothing(project: Project) -> None:
    """As behind a trial with random weights, which a new project's README advises."""
    trial = {**ran(2), "base": "outputs/base-1"}
    answered = ran(3, name="tiny/answer-cpu-fp32")
    journal = project.scratch / "journal.jsonl"
    journal.parent.mkdir(exist_ok=True)
    lines = [trial, answered, ran(4, name="tiny/score"), ran(5, name="base-1/base")]
    journal.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    entries = earlier_runs(project)
    names = ("train", "answer-cpu-fp32", "base")
    for base, found in (("outputs/base-1", [2, 3]), ("outputs/base-2", [])):
        times = [seconds_of(entries, stage(project, name), None, base) for name in names]
        assert times == [*map(exactly, found), *[None] * (3 - len(found))]
    # Of a training that is known to have so much more to do it is a range.
    journal.write_text(json.dumps({**ran(2, SHORT), "base": "outputs/base-1"}), encoding="utf-8")
    entries = earlier_runs(project)
    told = seconds_of(entries, stage(project, "train"), FULL, "outputs/base-2")
    assert told == Interval(2, 2 * 75)


def test_a_range_is_shown_as_one(project: Project) -> None:
    cost = api.plan("tiny", project=project.root).cost
    for seconds, shown in (
        (exactly(40), "≈ 40 s on"),
        (Interval(9, 675), "9 s to 11 min on"),
        (Interval(100, 120), "≈ 2 min on"),
    ):
        told = replace(cost, seconds=seconds, unmeasured=())
        assert shown in cost_line(told)
        assert told.to_json()["seconds_range"] == [seconds.low, seconds.high]


def test_no_total_leaves_out_a_stage_that_was_never_measured(project: Project) -> None:
    cost = api.plan("tiny", project=project.root).cost
    assert "Cost: time of base, data, answer-baselines and " in cost_line(cost)
    told = replace(cost, seconds=exactly(40), unmeasured=("tiny/export-cpu-fp32",))
    line = cost_line(told)
    assert "Cost: at least 40 s on this machine, time of export-cpu-fp32 unknown here" in line
    assert told.to_json()["seconds"] is None
    assert told.to_json()["seconds_range"] == [40, None]
