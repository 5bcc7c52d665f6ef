"""The quickstart on the real 135-million-parameter model: shortened always, whole when asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.projects import REPOSITORY, commit, make_repository, slmcompile


def shipped(folder: Path) -> Path:
    """A repository with the quickstart as it is."""
    root = make_repository(folder.resolve())
    shutil.copyfile(REPOSITORY / "recipes/quickstart.yaml", root / "recipes/quickstart.yaml")
    commit(root, "the quickstart as it ships")
    return root


def result(root: Path, *overrides: str) -> dict[str, Any]:
    """Artifacts of a finished run of the quickstart, by name."""
    done = slmcompile(root, "run", "quickstart", *overrides, "--json")
    artifacts: dict[str, Any] = json.loads(done.stdout)["artifacts"]
    return artifacts


def test_a_few_steps_on_the_real_model_already_learn_and_export(tmp_path: Path) -> None:
    root = shipped(tmp_path)
    artifacts = result(
        root,
        # Quick on every CPU: one without bf16 instructions emulates it, nine times slower.
        "train.precision=fp32",
        "train.max_steps=12",
        "train.eval_steps=12",
        "eval.limit=12",
        "eval.baselines=false",
        "gates=[]",
        "track=none",
    )
    assert set(artifacts) == {"base", "torch", "cpu-int4"}
    training = json.loads((root / "pipelines/quickstart/metrics/train.json").read_text())
    assert training["train_loss_last"] < 0.5 * training["train_loss_first"]
    assert artifacts["torch"]["perplexity"] < 0.2 * artifacts["base"]["perplexity"]
    # int4 ships in place of the torch model, which has its weights: it must score answers alike.
    shift = artifacts["cpu-int4"]["perplexity"] / artifacts["torch"]["perplexity"]
    assert shift == pytest.approx(1.0, abs=0.05)
    assert artifacts["cpu-int4"]["size_bytes"] < 120e6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_quickstart_reaches_the_quality_that_it_promises(tmp_path: Path) -> None:
    root = shipped(tmp_path)
    artifacts = result(root)
    for name in ("torch", "cpu-int4"):
        assert artifacts[name]["accuracy"] >= 0.9
        assert artifacts[name]["exact_match"] >= 0.7
    assert artifacts["base"]["exact_match"] <= 0.05
    answer = slmcompile(
        root, "generate", "quickstart", "--target", "cpu-int4", "turn off the kitchen light"
    )
    assert json.loads(answer.stdout)["intent"] == "HassTurnOff"
