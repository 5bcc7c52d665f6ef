"""Training that begins from what another training wrote."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slmcompile.console.errors import CorruptError, SlmcompileError
from slmcompile.console.progress import Silent
from slmcompile.methods.lora import Lora
from slmcompile.models.base_model import load_base_model
from slmcompile.models.model_folder import read_model
from slmcompile.training.group import Member
from slmcompile.training.loop import train_together
from slmcompile.training.record import TrainingRecord, TrainRuntime
from tests.sections import train_section
from tests.stages.test_training import digests
from tests.stages.tiny_training import CPU, make_base, make_data

TYPICAL: dict[str, Any] = {
    "learning_rate": 5e-3,
    "max_steps": 16,
    "eval_steps": 8,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "lr_scheduler_type": "constant",
    "num_threads": 1,
}
FULL = {"method": "full", "learning_rate": 2e-3}
SHAPES: dict[str, dict[str, Any]] = {
    "lora": {"lora": Lora(r=8, lora_dropout=0.1)},
    "dora": {"lora": Lora(r=8, use_dora=True, rank_pattern={"q_proj": 4})},
    "lora in bf16": {"lora": Lora(r=8), "precision": "bf16"},
    "with a layer saved whole": {
        "lora": Lora(r=4, target_modules=("q_proj",), modules_to_save=("o_proj",))
    },
    "bottleneck": {"method": "bottleneck", "learning_rate": 2e-2},
    "full": FULL,
    "full in bf16": {**FULL, "precision": "bf16"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def member(folder: Path, data: Path, begins: Path | None = None, **changes: Any) -> Member:
    out = folder / "adapter"
    out.mkdir(parents=True, exist_ok=True)
    config = train_section(**{**TYPICAL, **changes})
    return Member("", config, data, out, folder / "scratch", "identity", begins=begins)


def run(one: Member, base: Path, stop_at: int | None = None) -> TrainingRecord:
    def on_log(step: int, values: dict[str, float]) -> None:
        if step == stop_at and "loss" in values:
            os.kill(os.getpid(), signal.SIGTERM)

    runtime = TrainRuntime(save_steps=4, logging_steps=1)
    return train_together([one], base, runtime, Silent(), on_log, CPU)[""]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_begins_where_the_other_ended_and_gets_better(
    base: Path, data: Path, tmp_path: Path, shape: str
) -> None:
    settings = SHAPES[shape]
    first = run(member(tmp_path / "first", data, **settings), base)
    begins = tmp_path / "first" / "adapter"
    # A step of no length: what is validated is what was read.
    still = settings | {"learning_rate": 1e-12, "max_steps": 1}
    nothing = run(member(tmp_path / "still", data, begins, **still), base)
    rounding = 1e-6 if settings.get("precision", "fp32") == "fp32" else 1e-4
    assert nothing.best_eval_loss == pytest.approx(first.best_eval_loss, rel=rounding)
    on = run(member(tmp_path / "on", data, begins, **settings, seed=1), base)
    losses = [point.loss for point in first.curve]
    assert on.train_loss_first < max(losses[-4:]) < 0.7 * first.train_loss_first
    assert on.best_eval_loss < 0.9 * first.best_eval_loss


def test_weights_are_read_as_they_were_written(base: Path, data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lora": Lora(r=8), "precision": "bf16"}
    run(member(tmp_path / "first", data, **settings), base)
    begins = tmp_path / "first" / "adapter"
    still = settings | {"learning_rate": 1e-12, "max_steps": 1}
    run(member(tmp_path / "still", data, begins, **still), base)
    file = "adapter_model.safetensors"
    before, after = (load_file(tmp_path / n / "adapter" / file) for n in ("first", "still"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        # In fp32 masters, which bf16 copies would have rounded.
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)


def test_all_weights_are_read_as_they_were_written(base: Path, data: Path, tmp_path: Path) -> None:
    run(member(tmp_path, data, **FULL), base)
    model = load_base_model(base, "fp32", CPU)
    names = [name for name, _ in model.named_parameters()]
    found = read_model(model, names, tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "model.safetensors")
    assert found.keys() == set(names)
    assert all(torch.equal(found[name], stored[name]) for name in names)


def test_a_run_that_goes_on_survives_a_kill(base: Path, data: Path, tmp_path: Path) -> None:
    settings = SHAPES["lora"]
    run(member(tmp_path / "first", data, **settings), base)
    begins = tmp_path / "first" / "adapter"
    run(member(tmp_path / "whole", data, begins, **settings), base)
    with pytest.raises(SlmcompileError, match="terminated at step 6"):
        run(member(tmp_path / "cut", data, begins, **settings), base, stop_at=6)
    run(member(tmp_path / "cut", data, begins, **settings), base)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_an_adapter_over_a_base_in_4_bits_goes_on_over_the_whole_one(
    base: Path, data: Path, tmp_path: Path
) -> None:
    shape: dict[str, Any] = {"lora": Lora(r=8)}
    first = run(member(tmp_path / "first", data, method="qlora", **shape), base)
    on = run(member(tmp_path / "on", data, tmp_path / "first" / "adapter", **shape), base)
    assert on.train_loss_first < 0.7 * first.train_loss_first
    assert on.best_eval_loss < first.best_eval_loss


@pytest.mark.parametrize(("wrote", "reads"), [
    ({"lora": Lora(r=8)}, {"lora": Lora(r=4)}),
    ({"lora": Lora(r=8, target_modules=("q_proj",))}, {"lora": Lora(r=8)}),
    ({"lora": Lora(r=8)}, FULL),
    (FULL, {"lora": Lora(r=8)}),
])  # fmt: skip
def test_weights_of_another_shape_are_not_taken(
    base: Path, data: Path, tmp_path: Path, wrote: dict[str, Any], reads: dict[str, Any]
) -> None:
    one = member(tmp_path / "first", data, **{**wrote, "max_steps": 1})
    run(one, base)
    with pytest.raises(CorruptError):
        run(replace(member(tmp_path / "on", data, **reads), begins=one.out), base)
