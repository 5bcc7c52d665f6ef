"""Adapters in one pass over a base: each is what it is alone, whatever befalls the others."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slmcompile.console.errors import SlmcompileError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.methods.lora import Lora
from slmcompile.models.merge import load_merged
from slmcompile.training.batches import MicroBatch
from slmcompile.training.group import Group, Member, open_group
from slmcompile.training.loop import train_together
from slmcompile.training.record import TrainingRecord, TrainRuntime
from tests.sections import train_section
from tests.stages.test_training_methods import held_out
from tests.stages.tiny_training import CPU, make_base, make_data, make_rows

TYPICAL: dict[str, Any] = {
    "learning_rate": 1e-2,
    "num_train_epochs": 4.0,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "lr_scheduler_type": "cosine",
    "num_threads": 1,
}
# Rank, modules, rows a batch, accumulation, dropout, rate, cadence: everybody's own.
SHAPES: dict[str, dict[str, Any]] = {
    "one": {"lora": Lora(r=16)},
    "two": {
        "lora": Lora(r=4, target_modules=("q_proj", "down_proj"), lora_dropout=0.1),
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "learning_rate": 2e-2,
        "num_train_epochs": 8.0,
        "eval_steps": 7,
    },
    "three": {"lora": Lora(r=8, use_rslora=True), "num_train_epochs": 3.0, "eval_steps": 5},
}
# By layer, and at two rates: it is compared, and too small to learn.
PARTIAL: dict[str, dict[str, Any]] = {
    "four": {
        "lora": Lora(
            r=6,
            init_lora_weights="gaussian",
            layers_to_transform=(1,),
            exclude_modules=("k_proj",),
            rank_pattern={"q_proj": 3},
            alpha_pattern={"mlp.up_proj": 5.0},
            loraplus_lr_ratio=4.0,
        )
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sizes = {"one": 400, "two": 300, "three": 333, "four": 200}
    return {name: make_data(tmp_path_factory.mktemp(name), rows) for name, rows in sizes.items()}


def member(name: str, data: Mapping[str, Path], folder: Path, **changes: Any) -> Member:
    out = folder / "out" / name
    out.mkdir(parents=True, exist_ok=True)
    config = train_section(**{**TYPICAL, **{**SHAPES, **PARTIAL}.get(name, {}), **changes})
    scratch = folder / "scratch" / f"{name}-{hashlib.sha256(repr(config).encode()).hexdigest()[:8]}"
    return Member(name, config, data[name], out, scratch, f"identity of {name}: {config!r}")


def run(
    members: Sequence[Member], base: Path, stop_at: int | None = None, isolated: bool = False
) -> dict[str, TrainingRecord]:
    asked = []

    def on_log(step: int, values: Mapping[str, float]) -> None:
        if step == stop_at and not asked:
            asked.append(step)
            os.kill(os.getpid(), signal.SIGTERM)

    runtime = TrainRuntime(save_steps=4, logging_steps=1)
    return train_together(members, base, runtime, Silent(), on_log, CPU, isolated=isolated)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "out").rglob("*.safetensors"))
    }


SHORT = {"max_steps": 10, "precision": "bf16"}


# --- exact ----------------------------------------------------------------------------------------


def in_float64(members: Sequence[Member], base: Path) -> Group:
    group = open_group(members, base, CPU)
    group.model.double()
    group.model.train()
    for name, weight in group.model.named_parameters():
        if "lora_B" in name:
            # It begins at zero, where A has no gradient to compare.
            torch.manual_seed(len(name))
            torch.nn.init.normal_(weight, std=0.2)
    return group


def gradients(group: Group, rows: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Of one pass over everybody's rows, by parameter."""
    session = group.session
    now = []
    for learner in session.learners:
        learner._effective.trained = len(rows[learner.member])
        now.append((learner, MicroBatch(learner.member, rows[learner.member], 5)))
    for learner in session.learners:
        learner.weights.collect_gradients = lambda: None  # type: ignore[method-assign]
    session._forward_and_backward(now)
    return {n: p.grad for n, p in group.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_gradients_in_a_group_are_those_alone(
    base: Path, data: dict[str, Path], tmp_path: Path, method: str
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    names = ("one", "two", "three", "four")
    rows = {name: make_rows(5 + number, number) for number, name in enumerate(names)}
    members = [member(name, data, tmp_path, method=method) for name in names]
    # bitsandbytes computes in fp32 at most.
    bound = 1e-11 if method == "lora" else 2e-4
    together = gradients(in_float64(members, base), rows)
    seen = 0
    for each in members:
        alone = gradients(in_float64([each], base), rows)
        assert len(alone) > 3
        for name, gradient in alone.items():
            size = gradient.abs().max().item()
            assert size > 0
            error = (together[name] - gradient).abs().max().item()
            assert error < bound * size, name
        seen += len(alone)
    assert seen == len(together)


# --- each learns ----------------------------------------------------------------------------------


def accuracy(base: Path, each: Member) -> float:
    return held_out(load_merged(base, each.out), each.data)[0]


def test_each_learns_its_task_as_it_does_alone(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    together = [member(name, data, tmp_path / "together") for name in SHAPES]
    records = run(together, base)
    assert list(records) == list(SHAPES)
    for each in together:
        alone = member(each.name, data, tmp_path / "alone")
        (record,) = run([alone], base).values()
        own = records[each.name]
        assert own.steps == record.steps
        assert own.train_loss_first > 3
        assert own.best_eval_loss < 0.8
        # Beside a learner with dropout a layer is computed in its parts, and rounded elsewhere.
        assert own.best_eval_loss == pytest.approx(record.best_eval_loss, abs=0.1)
        assert own.trained_tokens == record.trained_tokens
        assert [p.learning_rate for p in own.curve] == [p.learning_rate for p in record.curve]
        assert accuracy(base, each) > 0.9
        # Before rounding has had time to part them.
        for mine, its in zip(own.curve[:5], record.curve[:5], strict=True):
            assert mine.loss == pytest.approx(its.loss, rel=1e-4)
    # Ranks and modules are each one's own.
    ranks = {
        each.name: {
            tuple(t.shape) for n, t in load_file(each.out / "adapter_model.safetensors").items()
        }
        for each in together
    }
    assert {min(shape) for shape in ranks["two"]} == {4}
    assert {min(shape) for shape in ranks["three"]} == {8}


def test_isolated_it_is_the_same_to_the_byte_in_any_group(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    found = []
    for names in (("one",), ("one", "two", "three"), ("three", "one"), ("four", "one"), ("four",)):
        folder = tmp_path / "-".join(names)
        run([member(name, data, folder, **SHORT) for name in names], base, isolated=True)
        found.append(digests(folder))
    for name, groups in (("one", found[:4]), ("four", found[3:])):
        own = [{k: v for k, v in each.items() if f"/{name}/" in f"/{k}"} for each in groups]
        assert own[0], name
        assert all(each == own[0] for each in own), name


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", [(3,), (4,), (2, 5, 9), (10, 17)])
def test_an_interrupted_group_writes_the_same_bytes(
    base: Path, data: dict[str, Path], tmp_path: Path, moments: tuple[int, ...]
) -> None:
    lengths = {"one": 20, "two": 9, "three": 14}
    changes = {name: {**SHORT, "max_steps": steps} for name, steps in lengths.items()}
    straight = [member(n, data, tmp_path / "straight", **changes[n]) for n in SHAPES]
    run(straight, base)
    broken = [member(n, data, tmp_path / "broken", **changes[n]) for n in SHAPES]
    for moment in moments:
        with pytest.raises(SlmcompileError):
            run(broken, base, stop_at=moment)
    records = run(broken, base)
    assert digests(tmp_path / "broken") == digests(tmp_path / "straight")
    # Each has the base and its own, whoever is beside it.
    assert len({r.total_parameters - r.trainable_parameters for r in records.values()}) == 1
    assert {name: record.steps for name, record in records.items()} == lengths
    assert any(record.resumed_from for record in records.values())


LENGTHS = {"one": 20, "two": 9, "three": 14}


def test_a_base_with_a_dropout_of_its_own_takes_one_adapter_at_a_time(
    data: dict[str, Path], tmp_path: Path
) -> None:
    dropping = make_base(tmp_path / "base", attention_dropout=0.1)
    members = [member(name, data, tmp_path) for name in ("one", "two")]
    with pytest.raises(StageFailedError, match=r"of its own \(attention_dropout 0\.1\)"):
        open_group(members, dropping, CPU)
    assert open_group(members[:1], dropping, CPU).members


@pytest.fixture(scope="module")
def straight(
    base: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Digests of a group that nothing befell."""
    folder = tmp_path_factory.mktemp("straight")
    run(_group_of(data, folder), base)
    return digests(folder)


def _group_of(data: dict[str, Path], folder: Path) -> list[Member]:
    return [member(n, data, folder, **{**SHORT, "max_steps": LENGTHS[n]}) for n in SHAPES]


def _killed_after(seconds: float, members: list[Member], base: Path) -> bool:
    """Trains in a process of its own; whether it came to its end before it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(members, base)
            code = 0
        finally:
            os._exit(code)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))]
)
def test_a_group_that_is_killed_at_any_moment_ends_in_the_same_bytes(
    base: Path, data: dict[str, Path], straight: dict[str, str], tmp_path: Path, seed: int
) -> None:
    draw, kills = random.Random(seed), 0
    members = _group_of(data, tmp_path)
    while not _killed_after(draw.uniform(0.05, 1.5) * 1.3**kills, members, base):
        kills += 1
        assert kills < 30
    assert digests(tmp_path) == straight


def test_a_group_that_is_killed_among_its_first_checkpoints_begins_anew(
    base: Path, data: dict[str, Path], straight: dict[str, str], tmp_path: Path
) -> None:
    members = _group_of(data, tmp_path)
    with pytest.raises(SlmcompileError):
        run(members, base, stop_at=4)
    # As if the kill had come when two had theirs.
    shutil.rmtree(members[2].scratch / "step-00000004")
    records = run(members, base)
    assert {record.resumed_from for record in records.values()} == {None}
    assert digests(tmp_path) == straight


# --- one falls out, one joins ---------------------------------------------------------------------


def test_a_diverging_member_is_named_and_the_others_are_kept(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    members = [
        member("one", data, tmp_path, **SHORT),
        member("two", data, tmp_path, **SHORT),
        member("three", data, tmp_path, **SHORT),
    ]
    broken = members[1]
    config = broken.config.model_copy(update={"learning_rate": 1e38})
    members[1] = Member("two", config, broken.data, broken.out, broken.scratch, "diverges")
    with pytest.raises(StageFailedError, match=r"two: .* diverged at learning rate") as raised:
        run(members, base)
    assert "one" not in raised.value.what
    assert not any(members[0].out.iterdir()), "a failed group leaves nothing where it would ship"

    others = [members[0], members[2]]
    records = run(others, base, stop_at=1)  # no step is made, so nothing is stopped
    assert {name: record.steps for name, record in records.items()} == {"one": 10, "three": 10}
    assert all((each.out / "adapter_model.safetensors").is_file() for each in others)


def test_a_group_that_is_interrupted_behind_a_divergence_goes_on_without_who_diverged(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    def trained(folder: Path, stop_at: int | None) -> tuple[list[Member], list[str], str]:
        two = member("two", data, folder, **SHORT)
        config = two.config.model_copy(update={"learning_rate": 1e38})
        members = [
            member("one", data, folder, **SHORT),
            Member("two", config, two.data, two.out, two.scratch, "diverges"),
            member("three", data, folder, **SHORT),
        ]
        told: list[str] = []

        class Heard(Silent):
            def say(self, line: str) -> None:
                told.append(line)

        def on_log(step: int, values: Mapping[str, float]) -> None:
            if step == stop_at and "one/loss" in values:
                os.kill(os.getpid(), signal.SIGTERM)

        # Checkpoints of the step at which all three were there are dropped long before it.
        runtime = TrainRuntime(save_steps=1, save_total_limit=1, logging_steps=1)
        with pytest.raises(SlmcompileError) as raised:
            train_together(members, base, runtime, Heard(), on_log, CPU)
        return members, told, raised.value.what

    straight, _, fault = trained(tmp_path / "straight", None)
    trained(tmp_path / "broken", 7)
    broken, told, again = trained(tmp_path / "broken", None)
    assert again == fault
    assert "two: " in again
    assert "one: going on from the checkpoint at step 7" in told
    for a, b in zip(straight, broken, strict=True):
        kept = [
            path.read_bytes() for each in (a, b) for path in each.scratch.glob("finished/weights/*")
        ]
        assert len(kept) == (0 if a.name == "two" else 4)
        assert kept[: len(kept) // 2] == kept[len(kept) // 2 :]


def test_a_member_that_joins_retrains_nobody(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    first = [member(name, data, tmp_path, **SHORT) for name in ("one", "two")]
    run(first, base)
    before = digests(tmp_path)
    told: list[str] = []

    class Heard(Silent):
        def say(self, line: str) -> None:
            told.append(line)

    joined = [*first, member("three", data, tmp_path, **SHORT)]
    runtime = TrainRuntime(save_steps=4, logging_steps=1)
    steps: list[int] = []
    records = train_together(
        joined, base, runtime, Heard(), lambda step, values: steps.append(len(values)), CPU
    )
    after = digests(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(records) == {"one", "two", "three"}
    assert sum("taken as it is" in line for line in told) == 2
    for each in joined:
        assert [path.name for path in each.scratch.iterdir()] == ["finished"]
    assert max(steps) == 6, "somebody else was trained"


def test_what_two_members_learn_alike_is_learnt_once(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    one = member("one", data, tmp_path, **SHORT)
    out = tmp_path / "out" / "twin"
    out.mkdir()
    twin = Member("twin", one.config, one.data, out, one.scratch, one.identity)
    records = run([one, twin], base)
    assert records["one"] == records["twin"]
    found = digests(tmp_path)
    assert len(found) == 2
    assert len(set(found.values())) == 1


def test_a_damaged_checkpoint_costs_the_others_nothing(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    members = [member(name, data, tmp_path, **SHORT) for name in ("one", "three")]
    with pytest.raises(SlmcompileError):
        run(members, base, stop_at=9)
    for path in members[0].scratch.glob("step-*"):
        if path.name != "step-00000004":
            (path / "weights.safetensors").write_bytes(b"")
    other = members[1].scratch
    kept = max(other.glob("step-*"))
    for path in set(other.glob("step-*")) - {kept}:
        shutil.rmtree(path)
    records = run(members, base)
    assert records["three"].resumed_from == int(kept.name.removeprefix("step-"))


def test_a_kept_member_that_is_damaged_is_trained_again(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    members = [member(name, data, tmp_path, **SHORT) for name in ("one", "two")]
    # In isolation, so that it comes out the same without the other beside it.
    run(members, base, isolated=True)
    before = digests(tmp_path)
    weights = members[0].scratch / "finished" / "weights" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    records = run(members, base, isolated=True)
    assert records["one"].steps == SHORT["max_steps"]
    assert digests(tmp_path) == before
    assert weights.read_bytes() == whole
