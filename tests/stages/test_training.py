"""The training loop on a tiny model: it learns, it is the same every time, it survives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from slmcompile.console.errors import (
    BadDataError,
    BadRecipeError,
    CorruptError,
    Exit,
    SlmcompileError,
    StageFailedError,
)
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, read_split, write_split
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import Lora
from slmcompile.training.group import Member
from slmcompile.training.loop import train
from slmcompile.training.record import TrainingRecord, TrainRuntime
from tests.sections import train_section
from tests.stages.tiny_training import CPU, make_base, make_data

ROOT = Path(__file__).parents[2]
OnLog = Callable[[int, dict[str, float]], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


class Heard(Silent):
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def recipe(**changes: Any) -> Train:
    settings: dict[str, Any] = {
        "learning_rate": 1e-2,
        "num_train_epochs": 6.0,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "lr_scheduler_type": "cosine",
        "num_threads": 1,
    }
    return train_section(**{**settings, **changes})


SHORT: dict[str, Any] = {
    "max_steps": 12,
    "eval_steps": 6,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 8,
    "precision": "bf16",
    "lora": Lora(r=4, lora_alpha=8.0, lora_dropout=0.1),
}
"""A short run with everything in it that a resumption could get wrong."""


def run(
    config: Train,
    base: Path,
    data: Path,
    folder: Path,
    *,
    on_log: OnLog = lambda step, values: None,
    progress: Silent | None = None,
    identity: str = "run-1",
    save_steps: int = 4,
    project: Path = Path(),
) -> TrainingRecord:
    out = folder / "adapter"
    out.mkdir(parents=True, exist_ok=True)
    runtime = TrainRuntime(save_steps=save_steps, save_total_limit=2, logging_steps=1)
    heard = progress or Silent()
    return train(
        Member("", config, data, out, folder / "scratch", identity, project),
        base,
        runtime,
        heard,
        on_log,
        CPU,
    )


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "adapter").iterdir())
    }


def steps_kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "scratch").iterdir())


@pytest.fixture(scope="module")
def whole(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(recipe(**SHORT), base, data, folder)
    return folder


def held_out(base: Path, data: Path, adapter: Path) -> tuple[float, float]:
    """Token accuracy and mean loss on validation, by stock PEFT and transformers, row by row."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    hits, loss, count = 0, 0.0, 0
    for row in read_split(data, "validation"):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        targets = torch.tensor(row.labels[1:])
        trained = targets != IGNORED
        hits += int((logits.argmax(-1) == targets)[trained].sum())
        loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        count += int(trained.sum())
    return hits / count, loss / count


def test_lora_alone_learns_the_task_and_stock_peft_opens_the_adapter(
    base: Path, data: Path, tmp_path: Path
) -> None:
    record = run(recipe(), base, data, tmp_path, save_steps=1000)
    accuracy, loss = held_out(base, data, tmp_path / "adapter")
    assert record.train_loss_first > 5
    assert record.train_loss_last < 0.1
    # A completion is a label token and the stop token: knowing only the stop gives 0.5 + 1/16.
    assert accuracy > 0.97
    assert loss == pytest.approx(record.best_eval_loss, abs=1e-4)
    assert record.steps == 150 == len(record.curve)
    assert record.epochs == 6
    assert record.fast_paths["fused_lora"] == 14
    assert json.loads(json.dumps(record.to_json()))["best_step"] == record.best_step


LONG: dict[str, Any] = {"max_steps": 40, "eval_steps": 5}


def contradicted(data: Path, folder: Path) -> Path:
    """The data with validation answers that belong to other prompts.

    A model first learns what an answer looks like, which helps there too, and then which answer is
    right, which does harm there: the best step is not the last, on every processor.
    """
    rows = read_split(data, "validation")
    folder.mkdir()
    swapped = []
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        answer = other.input_ids[len(other.prompt_ids) :]
        labels = [IGNORED] * len(row.prompt_ids) + answer
        swapped.append(replace(row, input_ids=row.prompt_ids + answer, labels=labels))
    write_split(folder, "train", read_split(data, "train"))
    write_split(folder, "validation", swapped)
    return folder


def test_the_best_weights_are_written_not_the_last(base: Path, data: Path, tmp_path: Path) -> None:
    data = contradicted(data, tmp_path / "data")
    record = run(recipe(**LONG), base, data, tmp_path / "whole")
    evaluated = {p.step: p.eval_loss for p in record.curve if p.eval_loss is not None}
    assert sorted(evaluated) == [5, 10, 15, 20, 25, 30, 35, 40]
    assert record.saved_step == record.best_step < 36
    assert evaluated[record.best_step] == min(evaluated.values())
    _, loss = held_out(base, data, tmp_path / "whole" / "adapter")
    assert loss == pytest.approx(evaluated[record.best_step], rel=1e-3)
    assert evaluated[40] > 1.2 * loss

    def on_log(step: int, values: dict[str, float]) -> None:
        if step == 37:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SlmcompileError, match="terminated at step 37"):
        run(recipe(**LONG), base, data, tmp_path / "cut", on_log=on_log)
    assert run(recipe(**LONG), base, data, tmp_path / "cut").resumed_from == 37
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_equal_runs_give_equal_bytes(base: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    run(recipe(**SHORT), base, data, tmp_path / "again", save_steps=1000)
    run(recipe(**SHORT, seed=1), base, data, tmp_path / "other")
    assert digests(tmp_path / "again") == digests(whole)
    weights = "adapter_model.safetensors"
    assert digests(tmp_path / "other")[weights] != digests(whole)[weights]
    text = (whole / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    assert str(base) not in text
    targets = json.loads(text)["target_modules"]
    assert targets == sorted(targets)


CHILD = """
import os, signal, sys
from pathlib import Path
import tests.stages.test_training as t
def on_log(step, values):
    if step == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
t.run(t.recipe(**t.SHORT), *map(Path, sys.argv[1:4]), on_log=on_log)
"""


@pytest.mark.parametrize("step", [3, 7])
def test_a_killed_run_resumes_to_the_same_bytes(
    base: Path, data: Path, whole: Path, tmp_path: Path, step: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(step)}
    command = [sys.executable, "-c", CHILD, str(base), str(data), str(tmp_path), str(step)]
    child = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert list((tmp_path / "adapter").iterdir()) == []
    record = run(recipe(**SHORT), base, data, tmp_path)
    assert record.resumed_from == {3: None, 7: 4}[step]
    assert digests(tmp_path) == digests(whole)
    assert [point.step for point in record.curve] == list(range(1, 13))


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, Exit.TERMINATED), (signal.SIGINT, Exit.INTERRUPTED)]
)
def test_a_signal_ends_the_run_after_a_checkpoint_and_the_next_goes_on(
    base: Path, data: Path, whole: Path, tmp_path: Path, sent: signal.Signals, code: Exit
) -> None:
    earlier = signal.getsignal(sent)

    def on_log(step: int, values: dict[str, float]) -> None:
        # At step 6 validation is due as well: it is cut short and made after the resumption.
        if step == 6:
            os.kill(os.getpid(), sent)

    with pytest.raises(SlmcompileError) as caught:
        run(recipe(**SHORT), base, data, tmp_path, on_log=on_log)
    assert caught.value.code == code
    assert "step 6" in caught.value.what
    assert signal.getsignal(sent) == earlier
    assert steps_kept(tmp_path) == ["step-00000004", "step-00000006"]
    assert list((tmp_path / "adapter").iterdir()) == []
    record = run(recipe(**SHORT), base, data, tmp_path)
    assert record.resumed_from == 6
    assert record.curve[5].eval_loss is not None
    assert digests(tmp_path) == digests(whole)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_last_byte, Path.unlink])
@pytest.mark.parametrize("name", ["optimizer.safetensors", "rng.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_set_aside_and_an_earlier_one_used(
    base: Path,
    data: Path,
    whole: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    name: str,
) -> None:
    shutil.copytree(whole / "scratch", tmp_path / "scratch")
    assert steps_kept(tmp_path) == ["step-00000008", "step-00000012"]
    damage(tmp_path / "scratch" / "step-00000012" / name)
    # A newer file time must not make an older checkpoint the newest.
    os.utime(tmp_path / "scratch" / "step-00000008")
    heard = Heard()
    record = run(recipe(**SHORT), base, data, tmp_path, progress=heard)
    assert record.resumed_from == 8
    assert any("step-00000012 set aside" in line for line in heard.lines)
    assert (tmp_path / "scratch" / "step-00000012.damaged").is_dir()
    assert digests(tmp_path) == digests(whole)


def test_a_checkpoint_of_another_run_is_refused(
    base: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole / "scratch", tmp_path / "scratch")
    with pytest.raises(CorruptError, match="belongs to run run-1, not to run-2"):
        run(recipe(**SHORT), base, data, tmp_path, identity="run-2")
    assert steps_kept(tmp_path) == ["step-00000008", "step-00000012"]


def test_accumulated_micro_batches_are_one_effective_batch(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """The mean is over trained tokens of all micro-batches, however unequal they are."""
    rows = read_split(data, "train")[:24]
    longer = [replace(row, labels=row.input_ids) if row.id % 3 else row for row in rows]
    uneven = tmp_path / "data"
    uneven.mkdir()
    write_split(uneven, "train", longer)
    write_split(uneven, "validation", rows)
    points = []
    for size, accumulated in ((24, 1), (8, 3), (5, 5)):
        config = recipe(
            max_steps=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            group_by_length=False,
        )
        points.append(run(config, base, uneven, tmp_path / str(size)).curve[0])
    for point in points[1:]:
        assert point.loss == pytest.approx(points[0].loss, rel=1e-5)
        assert point.grad_norm == pytest.approx(points[0].grad_norm, rel=1e-4)
        assert point.tokens == points[0].tokens


def test_weights_that_are_not_finite_fail_the_run_and_write_nothing(
    base: Path, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "base"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageFailedError, match=r"loss is nan at step 1: the base model's weights"):
        run(recipe(**SHORT), broken, data, tmp_path)
    assert list((tmp_path / "adapter").iterdir()) == []


def test_divergence_names_the_step_and_the_learning_rate(
    base: Path, data: Path, tmp_path: Path
) -> None:
    wild = {"learning_rate": 1.0, "lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    config = recipe(max_steps=400, lora=Lora(lora_alpha=1e30), **wild)
    with pytest.raises(
        StageFailedError, match=r"at step \d+: training diverged at learning rate 1"
    ):
        run(config, base, data, tmp_path, save_steps=1000)
    assert list((tmp_path / "adapter").iterdir()) == []


def test_a_module_name_that_matches_nothing_is_named(
    base: Path, data: Path, tmp_path: Path
) -> None:
    config = recipe(lora=Lora(target_modules=("q_proj", "v_prj")))
    with pytest.raises(BadRecipeError) as caught:
        run(config, base, data, tmp_path)
    assert "train.lora.target_modules: 'v_prj'" in caught.value.what
    assert "v_proj" in caught.value.mend


def test_a_row_with_nothing_to_train_is_named(base: Path, data: Path, tmp_path: Path) -> None:
    rows = read_split(data, "train")[:4]
    rows[2] = replace(rows[2], labels=[IGNORED] * len(rows[2].input_ids))
    write_split(tmp_path, "train", rows)
    write_split(tmp_path, "validation", rows)
    with pytest.raises(BadDataError, match=r"train.parquet: row 2, column labels: no token"):
        run(recipe(**SHORT), base, tmp_path, tmp_path)


def test_a_token_that_the_base_model_lacks_is_named(base: Path, data: Path, tmp_path: Path) -> None:
    rows = read_split(data, "train")[:4]
    rows[1] = replace(rows[1], input_ids=[*rows[1].input_ids[:-1], 512])
    write_split(tmp_path, "train", rows)
    write_split(tmp_path, "validation", rows)
    with pytest.raises(BadDataError, match=r"row 1, column input_ids: token 512"):
        run(recipe(**SHORT), base, tmp_path, tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_modules_to_save_are_trained_and_written(
    base: Path, data: Path, tmp_path: Path, precision: str
) -> None:
    lora = Lora(target_modules=("q_proj",), modules_to_save=("norm",))
    config = recipe(max_steps=10, precision=precision, lora=lora)
    record = run(config, base, data, tmp_path)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    norm = weights["base_model.model.model.norm.weight"]
    assert norm.dtype == torch.float32
    assert not torch.equal(norm, torch.ones_like(norm))
    assert record.train_loss_last < record.train_loss_first - 0.2
    tolerance = 1e-4 if precision == "fp32" else 0.05
    loss = held_out(base, data, tmp_path / "adapter")[1]
    assert loss == pytest.approx(record.best_eval_loss, abs=tolerance)


def test_gradient_checkpointing_changes_nothing(base: Path, data: Path, tmp_path: Path) -> None:
    plain = run(recipe(max_steps=5), base, data, tmp_path / "plain")
    saving = run(recipe(max_steps=5, gradient_checkpointing=True), base, data, tmp_path / "saving")
    for one, other in zip(plain.curve, saving.curve, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
