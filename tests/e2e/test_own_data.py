"""From a file of somebody's own to measured exports, with the commands that the README gives.

With the trial's model of random weights, which learns next to nothing: what counts is that nothing
is refused and everything comes out.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.own_files import FILES
from tests.projects import command, slmcompile
from tests.run_stages import run_stages

TRIAL = ("model=trial", "train=tiny")


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A project of ``init`` for a file, committed as a person would."""
    (tmp_path / request.param).write_bytes(FILES[request.param].content)
    slmcompile(tmp_path, "init", "mine", "--data", request.param)
    root = tmp_path / "mine"
    command(root, "git", "add", "--all")
    return root


def _measured(root: Path, artifact: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(
        (root / f"pipelines/mine/metrics/{artifact}.json").read_text(encoding="utf-8")
    )
    return found


@pytest.mark.timeout(1800)  # stages are processes of their own, beside other work
@pytest.mark.parametrize("started", ["semicolons.csv"], indirect=True)
def test_a_csv_of_labels_is_trained_measured_and_asked(started: Path) -> None:
    readme = (started / "README.md").read_text(encoding="utf-8")
    assert f"slmcompile run mine {' '.join(TRIAL)} " in readme
    slmcompile(started, "plan", "mine")
    slmcompile(started, "run", "mine", *TRIAL)
    for artifact in ("torch", "cpu-int4"):
        found = _measured(started, artifact)
        assert {"accuracy", "f1_macro", "perplexity"} <= found.keys()
        assert found["perplexity"] > 1
    again = json.loads(slmcompile(started, "plan", "mine", *TRIAL, "--json").stdout)
    assert {stage["action"] for stage in again["stages"]} == {"unchanged"}
    asked = slmcompile(started, "generate", "mine", "is box number 4 of wood?", "--json")
    assert json.loads(asked.stdout)["values"] == {"text": "is box number 4 of wood?"}


@pytest.mark.parametrize("started", ["sharegpt.jsonl", "alpaca.json"], indirect=True)
def test_conversations_and_instructions_are_answered(started: Path) -> None:
    run_stages(started, "mine", *TRIAL)
    for artifact in ("torch", "cpu-int4"):
        assert {"rouge_l", "chrf", "exact_match", "perplexity"} <= _measured(
            started, artifact
        ).keys()


@pytest.mark.parametrize("started", ["documents.jsonl"], indirect=True)
def test_documents_are_read_on(started: Path) -> None:
    run_stages(started, "mine", *TRIAL)
    trained, exported = (_measured(started, name) for name in ("torch", "cpu-int4"))
    assert exported["bits_per_byte"] == pytest.approx(trained["bits_per_byte"], rel=0.05)
    assert "exact_match" not in trained
