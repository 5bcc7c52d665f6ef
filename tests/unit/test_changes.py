"""What a plan says of outputs that are not as they were left is what DVC then does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.project import Project
from slmcompile.state import state
from slmcompile.state.changes import Change, changes
from slmcompile.state.reasons import identity_reasons
from slmcompile.state.short_values import short_pair
from slmcompile.state.specs import parse_spec
from slmcompile.state.state import Cache, read_lock
from tests.pretend import pretend_run
from tests.projects import make_project

OUT = "outputs/tiny/train"
METRIC = "pipelines/tiny/metrics/torch.json"


@pytest.fixture
def ran(tmp_path: Path) -> Project:
    """The tiny recipe as a run leaves it."""
    project = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    pretend_run(project, compile_recipe(project, "tiny", ()))
    return project


def change(project: Project, name: str) -> Change:
    found = changes(project, compile_recipe(project, "tiny", ()))
    return next(each for each in found if each.stage.name == name)


def what(project: Project, name: str) -> tuple[str, list[tuple[str, str]]]:
    found = change(project, name)
    return found.action, [(reason.cause, reason.subject) for reason in found.reasons]


def blobs(project: Project) -> list[Path]:
    """The objects of the train stage's output: its folder and the one file in it."""
    cache = Cache(project)
    md5 = read_lock(project, "tiny")["train"].outs[OUT]
    return [cache.blob(md5), *(cache.blob(below) for below in (cache.folder(md5) or {}).values())]


@pytest.mark.parametrize("which", [0, 1])
def test_an_output_without_its_cache_object_is_made_anew(ran: Project, which: int) -> None:
    blobs(ran)[which].unlink()
    assert what(ran, "train") == ("run", [("cache", OUT)])
    assert "its cache object is missing" in change(ran, "train").reasons[0].sentence()
    assert change(ran, "answer-torch").action == "run"


def test_a_changed_size_is_restored_from_the_cache_if_that_is_whole(ran: Project) -> None:
    made = ran.root / OUT / "made"
    made.write_text(made.read_text() + "x")
    assert what(ran, "train") == ("restore", [("edited", OUT)])
    (ran.root / OUT / "added").touch()
    assert what(ran, "train") == ("restore", [("edited", OUT)])
    blob = blobs(ran)[1]
    blob.write_text(blob.read_text() + "x")
    assert what(ran, "train") == ("run", [("edited", OUT)])
    blob.chmod(0o444)  # DVC takes it on trust
    assert what(ran, "train") == ("restore", [("edited", OUT)])


def test_a_metric_is_compared_by_its_bytes(ran: Project) -> None:
    path = ran.root / METRIC
    path.write_text(path.read_text().replace("0.9", "0.8"))
    assert what(ran, "score") == ("restore", [("edited", METRIC)])


def test_no_more_is_looked_at_than_an_output_has(
    ran: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_MOST_FILES", 3)
    for number in range(40):
        (ran.root / OUT / str(number)).mkdir()
        (ran.root / OUT / str(number) / "file").touch()
    looked: list[str] = []
    scan = os.scandir

    def counting(path: os.PathLike[str]) -> Any:
        looked.append(os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", counting)
    assert what(ran, "train") == ("restore", [("edited", OUT)])
    blobs(ran)[0].unlink()
    assert what(ran, "train") == ("run", [("edited", OUT)])
    assert len([path for path in looked if f"{OUT}/" in path]) <= 2 + 4


def test_every_key_of_an_evaluation_is_named_as_the_recipe_has_it(ran: Project) -> None:
    plan = compile_recipe(ran, "tiny", ())
    named: set[str] = set()
    for stage in (plan.stage("answer", "torch"), plan.stage("score")):
        before = stage.identity()
        before["config"] = dict.fromkeys(stage.config, "other")
        named |= {each.subject for each in identity_reasons(plan, stage, before, stage.identity())}
    for key in named - {"artifact"}:  # the stage's own name
        section, _, name = key.partition(".")
        assert name in plan.effective[section], key
    assert {"data.seed", "data.normalize_labels", "data.label", "eval.limit"} <= named


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("a", "b", ("a", "b")),
        (0.1, 0.2, ("0.1", "0.2")),
        (0.12345678, 0.12345679, ("0.12345678", "0.12345679")),
        ("x" * 60 + "a", "x" * 60 + "b", ("…" + "x" * 12 + "a", "…" + "x" * 12 + "b")),
        ("x" * 60, "x" * 61, ("…" + "x" * 12, "…" + "x" * 13)),
        (["parts/a-quite-long-name.jsonl", "parts/b-long-name.jsonl"],
         ["parts/a-quite-long-name.jsonl", "parts/c-long-name.jsonl"],
         ('…nl", "parts/b-long-name.jsonl"]', '…nl", "parts/c-long-name.jsonl"]')),
    ],
)  # fmt: skip
def test_values_that_differ_are_shown_so(old: Any, new: Any, shown: tuple[str, str]) -> None:
    assert short_pair(old, new) == shown


@pytest.mark.parametrize(
    "epochs", [None, "x", {"x": "1"}, {"x": {"y": 1}}, {"k" * 900: 2}, {"x": 0}]
)
def test_a_spec_with_epochs_that_are_none_is_no_spec(epochs: Any) -> None:
    assert parse_spec(json.dumps({"config": {}, "epochs": epochs})) is None
    assert parse_spec(json.dumps({"config": {}, "epochs": {"metric f1_micro": 2}})) is not None


def test_gates_that_differ_are_put_into_words() -> None:
    one = {"metric": "accuracy", "artifact": "torch", "min": 0.5, "max": None, "adapter": None}
    other = one | {"metric": "exact_match", "artifact": "cpu-int8", "min": None, "max_drop": 0.03}
    lower = one | {"adapter": "tone", "min": 0.25}
    assert short_pair([one, other], [lower, other]) == (
        "accuracy of torch ≥ 0.5",
        "tone: accuracy of torch ≥ 0.25",
    )
    assert short_pair([], [other]) == ("none", "exact_match of cpu-int8 drop ≤ 0.03")
    assert short_pair([one, other], [other, one])[0].startswith("[{")
    assert not short_pair([], [one, lower])[1].endswith("…")
    assert short_pair([], [one, lower, other])[1].endswith(", …")
    assert short_pair([], ["metric"]) == ("[]", '["metric"]')
