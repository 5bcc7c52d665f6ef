"""One trained model for Qualcomm's neural processor, answered by its simulator and by the CPU."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.projects import commit, make_repository
from tests.workplace import Workplace

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        find_spec("onnxruntime_qnn") is None, reason="pip install 'slmcompile[qnn]'"
    ),
]

RECIPE = """
defaults:
  - model: tiny-llama
  - data: tiny-commands
  - train: tiny
  - eval: structured
  - target: [qnn-w8a16]
  - track: none
  - _self_
train: {num_train_epochs: 3, learning_rate: 1e-2}
eval: {max_new_tokens: 8, base_model: false, baselines: false}
target:
  qnn-w8a16: {context_length: 64, sequence_length: 16}
  simulated:
    execution_provider: qnn
    context_length: 64
    sequence_length: 16
    answered_by: simulator
    htp_arch: 79
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    (root / "recipes/npu.yaml").write_text(RECIPE, encoding="utf-8")
    commit(root, "a recipe with two targets for a neural processor")
    found = Workplace(root, "npu")
    found.run("run", "npu")
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_both_do_the_task_as_torch_does(work: Workplace) -> None:
    torch = work.metrics("torch")
    assert torch["exact_match"] > 0.9
    for name in ("qnn-w8a16", "simulated"):
        found = work.metrics(name)
        assert found["rows"] == torch["rows"]
        assert found["exact_match"] >= torch["exact_match"] - 0.03
        assert found["perplexity"] == pytest.approx(torch["perplexity"], rel=0.02)


def test_who_answered_is_recorded_and_no_speed(work: Workplace) -> None:
    for name, word in (("qnn-w8a16", "emulated"), ("simulated", "simulated")):
        measured = read(work.root / f"outputs/npu/answer-{name}/measured.json")
        assert measured["ran"] == word
        assert "tokens_per_second" not in measured
        card = (work.root / f"outputs/npu/report/cards/{name}/README.md").read_text("utf-8")
        assert f"{word.capitalize()}: its answers were measured by" in card
    said = work.run("show", "npu").stdout
    assert "Emulated: qnn-w8a16" in said
    assert "Simulated: simulated" in said


def test_the_manifest_says_what_was_compiled_and_for_which_processor(work: Workplace) -> None:
    for name, arch in (("qnn-w8a16", 75), ("simulated", 79)):
        info = read(work.root / f"outputs/npu/export-{name}/manifest.json")["info"]
        assert info["qnn"]["htp_arch"] == arch
        assert {*info["qnn"]["nodes"]} == {"prefill", "decode"}
        assert all({*nodes} == {"QNNExecutionProvider"} for nodes in info["qnn"]["nodes"].values())
        assert info["qnn"]["simulator"]["mean_kl"] < 1e-3
        assert "ran" not in info


def test_what_is_said_on_standard_output_is_the_answer_alone(work: Workplace) -> None:
    texts = read(work.root / "outputs/npu/export-simulated/prompt.json")
    assert texts["columns"] == ["text"]
    for name in ("qnn-w8a16", "simulated"):
        done = work.run("generate", "npu", "--target", name, "turn on my screen now")
        assert done.stdout.strip() == "on"


def test_a_row_that_has_no_room_is_refused_before_anything_runs(work: Workplace) -> None:
    keys = ("target.simulated.context_length=8", "target.simulated.sequence_length=4")
    done = work.run("plan", "npu", *keys, code=78)
    assert "target.simulated.context_length" in done.stderr
