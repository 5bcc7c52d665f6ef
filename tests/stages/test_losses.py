"""What training minimises: its numbers are those of the papers, whatever way the head is run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from slmcompile.console.errors import BadDataError
from slmcompile.data.store import Row, read_split, write_split
from slmcompile.losses import LOSSES
from slmcompile.losses.cross_entropy import CrossEntropy
from slmcompile.losses.focal import Focal
from slmcompile.losses.keys import LossKeys
from slmcompile.methods.lora import Lora
from slmcompile.registry.table import program
from slmcompile.training import hot_path
from slmcompile.training.batches import MicroBatch, collate
from slmcompile.training.layout import Layout
from slmcompile.training.loss import TrainedPositionLoss
from slmcompile.training.losses.class_weights import ClassWeights
from slmcompile.training.losses.positions import positions_of
from slmcompile.training.losses.program import LossProgram
from tests.loss_files import python, write_loss
from tests.stages.test_training import SHORT, digests, recipe, run
from tests.stages.test_training_hot_path import ALONE_IN_IT, build, gradients
from tests.stages.test_training_hot_path import rows as shapes
from tests.stages.tiny_training import CPU, make_base, make_data

LABELS = ("on", "off", "on", "off", "off")


def rows() -> list[Row]:
    """Rows of several lengths with labels."""
    return [replace(row, label=label) for row, label in zip(shapes(), LABELS, strict=True)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def opened(keys: LossKeys, project: Path = Path()) -> LossProgram:
    found: LossProgram = program(LOSSES[keys.type].program)(keys, rows(), project)
    return found


# --- gradients ------------------------------------------------------------------------------------

Formula = Callable[[torch.Tensor, torch.Tensor, Sequence[Row]], torch.Tensor]


def _whose(given: Sequence[Row]) -> Any:
    return positions_of(given, CPU)


def _weights(given: Sequence[Row], by_label: dict[str, float]) -> torch.Tensor:
    """As the key's description has it, written out."""
    of = _whose(given)
    raw = torch.tensor([by_label.get(row.label, 1.0) for row in given], dtype=torch.float64)[of.row]
    return raw / raw.mean()


def _nats(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    return functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)


def _focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    chosen = torch.softmax(logits, -1).gather(1, targets.unsqueeze(1)).squeeze(1)
    return -((1 - chosen) ** gamma) * chosen.log()


def _first_counts(logits: torch.Tensor, targets: torch.Tensor, given: Sequence[Row]) -> Any:
    factor = torch.where(_whose(given).place == 0, 3.0, 1.0)
    return factor * _nats(logits, targets)


def _together(logits: torch.Tensor, targets: torch.Tensor, given: Sequence[Row]) -> Any:
    nats = _nats(logits, targets)
    lengths = torch.tensor([len(row.label) for row in given])[_whose(given).row]
    return (nats - 0.5 * nats.mean()) ** 2 * lengths


CASES: dict[str, tuple[LossKeys, Formula]] = {
    "cross entropy": (CrossEntropy(), lambda z, y, _: _nats(z, y)),
    "smoothed": (CrossEntropy(label_smoothing=0.2), lambda z, y, _: _nats(z, y, 0.2)),
    "weighed": (
        CrossEntropy(class_weights={"on": 5.0}),
        lambda z, y, given: _nats(z, y) * _weights(given, {"on": 5.0}),
    ),
    "smoothed and weighed": (
        CrossEntropy(label_smoothing=0.1, class_weights={"on": 3.0, "off": 0.5}),
        lambda z, y, given: _nats(z, y, 0.1) * _weights(given, {"on": 3.0, "off": 0.5}),
    ),
    "focal": (Focal(type="focal", gamma=2.0), lambda z, y, _: _focal(z, y, 2.0)),
    "focal with a root": (Focal(type="focal", gamma=0.5), lambda z, y, _: _focal(z, y, 0.5)),
    "focal, weighed": (
        Focal(type="focal", gamma=1.5, class_weights={"off": 4.0}),
        lambda z, y, given: _focal(z, y, 1.5) * _weights(given, {"off": 4.0}),
    ),
    "python": (python("FirstCounts", factor=3.0), _first_counts),
    "python, of a batch": (python("Together", "batch"), _together),
}


def _in_float64(family: str, lora: Lora) -> tuple[Any, Layout, TrainedPositionLoss]:
    model, _ = build(family, lora, torch.float64)
    layout = Layout()
    hot_path.install(model.get_base_model(), layout, ALONE_IN_IT)
    model.train()
    return model, layout, TrainedPositionLoss(model.get_base_model(), CPU)


HEADS = {
    "fused": ("llama", Lora(r=4)),
    "capped": ("gemma2", Lora(r=4)),
    "trained": ("llama", Lora(r=4, modules_to_save=("lm_head",))),
}


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("name", sorted(CASES))
def test_losses_and_gradients_are_those_of_the_formula_over_all_logits(
    name: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, a few positions at a time; a weight of each loss shows that none is mixed up."""
    monkeypatch.setattr("slmcompile.training.loss.LOGITS_AT_ONCE", 5 * 97)
    keys, formula = CASES[name]
    model, layout, head_of = _in_float64(*HEADS[head])
    assert head_of.fused == (head == "fused")
    given = rows()
    batch = collate([MicroBatch("", given)], CPU)
    unlike = torch.linspace(0.2, 1.7, len(batch.targets), dtype=torch.float64)

    def trained() -> Any:
        return head_of.of(batch)(batch.parts[0].trained, positions_of(given, CPU))

    with layout.of(batch):
        losses = opened(keys, write_loss(tmp_path))(trained())
        (losses.minimised * unlike).sum().backward()
    got = gradients(model)
    with layout.of(batch):
        logits = trained().logits()
        expected = formula(logits, batch.targets, given)
        (expected * unlike).sum().backward()
    plain = gradients(model)
    assert not losses.cross_entropy.requires_grad
    torch.testing.assert_close(losses.minimised, expected, rtol=1e-10, atol=1e-10)
    nats = _nats(logits, batch.targets).detach()
    torch.testing.assert_close(losses.cross_entropy, nats, rtol=1e-10, atol=1e-10)
    assert got.keys() == plain.keys()
    for weight, value in plain.items():
        assert value.abs().max() > 0, weight
        torch.testing.assert_close(got[weight], value, rtol=1e-10, atol=1e-10, msg=weight)


def test_a_loss_of_positions_never_holds_more_logits_than_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slmcompile.training.loss.LOGITS_AT_ONCE", 3 * 97)
    write_loss(
        tmp_path,
        "from torch.nn import functional\n"
        "class Seen:\n"
        "    def __init__(self):\n        self.seen = []\n"
        "    def __call__(self, logits, targets, positions):\n"
        "        self.seen.append(len(logits))\n"
        "        assert len(positions.row) == len(positions.place) == len(targets) == len(logits)\n"
        "        return functional.cross_entropy(logits, targets, reduction='none')\n",
    )
    _, layout, head_of = _in_float64(*HEADS["fused"])
    batch = collate([MicroBatch("", rows())], CPU)
    for sees, most in (("positions", 3), ("batch", len(batch.targets))):
        loss: Any = opened(python("Seen", sees), tmp_path)
        with layout.of(batch):
            part = head_of.of(batch)(batch.parts[0].trained, positions_of(rows(), CPU))
            loss(part).minimised.sum().backward()
        assert max(loss._called.seen) == most
        assert sum(loss._called.seen) == len(batch.targets)


# --- numbers --------------------------------------------------------------------------------------


def test_focal_loss_with_gamma_0_trains_to_the_bytes_of_cross_entropy(
    base: Path, data: Path, tmp_path: Path
) -> None:
    run(recipe(**SHORT), base, data, tmp_path / "plain")
    focal = run(recipe(**SHORT, loss={"type": "focal", "gamma": 0.0}), base, data, tmp_path / "f")
    assert digests(tmp_path / "f") == digests(tmp_path / "plain")
    assert focal.objective == "focal loss (gamma 0)"
    assert [point.loss for point in focal.curve] == [point.cross_entropy for point in focal.curve]


def test_a_token_that_is_surely_right_has_a_finite_slope_under_a_root() -> None:
    """Where p rounds to 1, the slope of (1 - p)^gamma has no end."""
    nats = torch.tensor([0.0, 1e-42, 1e-8, 3.0], requires_grad=True)

    class Found:
        targets = torch.zeros(4, dtype=torch.int64)
        positions = None

        def cross_entropy(self) -> torch.Tensor:
            return nats

    loss: Any = opened(Focal(type="focal", gamma=0.3))
    losses = loss(Found())
    losses.minimised.sum().backward()
    assert torch.isfinite(losses.minimised).all()
    assert nats.grad is not None
    assert torch.isfinite(nats.grad).all()


def test_class_weights_are_divided_by_their_mean_over_the_trained_tokens() -> None:
    given = rows()
    tokens = [3, 6, 1, 4, 2]
    mean = (5 * (tokens[0] + tokens[2]) + tokens[1] + tokens[3] + tokens[4]) / sum(tokens)
    weights = ClassWeights({"on": 5.0}, given)
    assert weights.mean == pytest.approx(mean)
    whose = positions_of(given, CPU)
    of = weights.of(whose, torch.zeros(1, dtype=torch.float64))
    assert of.mean().item() == pytest.approx(1)
    assert of[0].item() == pytest.approx(5 / mean)
    twice = ClassWeights({"on": 10.0, "off": 2.0}, given)
    torch.testing.assert_close(twice.of(whose, of), of)


def test_rows_against_forgetting_count_as_any_other_whatever_they_say() -> None:
    given = [*rows(), replace(rows()[0], label="on", counted=False)]
    weights = ClassWeights({"on": 5.0}, given)
    of = weights.of(positions_of(given, CPU), torch.zeros(1, dtype=torch.float64))
    assert of[0] == pytest.approx(5 * of[-1].item())
    with pytest.raises(BadDataError, match="no row of the train split has the label 'onn'") as told:
        ClassWeights({"onn": 5.0}, given)
    assert told.value.mend == "did you mean 'on'?"


def test_class_weights_raise_the_recall_of_a_rare_label(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command in twenty is answered otherwise, and nothing in the text says which."""
    source = make_data(tmp_path / "source", train=240, validation=80)
    rows = read_split(source, "train")
    rare, often = (next(row for row in rows if row.label == each) for each in ("on", "off"))
    made = tmp_path / "data"
    made.mkdir()
    prompt = often.prompt_ids

    def answered(number: int, by: Row) -> Row:
        answer = by.input_ids[len(by.prompt_ids) :]
        labels = [-100] * len(prompt) + answer
        return replace(by, id=number, prompt_ids=prompt, input_ids=prompt + answer, labels=labels)

    train = [answered(n, rare if n % 8 == 0 else often) for n in range(64)]
    write_split(made, "train", train)
    write_split(made, "validation", train[:16])
    says: dict[str, float] = {}
    for name, loss in (("plain", {}), ("weighed", {"class_weights": {"on": 30.0}})):
        config = recipe(
            max_steps=30, per_device_train_batch_size=32, loss=loss, load_best_model_at_end=False
        )
        run(config, base, made, tmp_path / name)
        says[name] = _probability(base, tmp_path / name / "adapter", train[0])
    assert says["plain"] == pytest.approx(1 / 8, abs=0.08), "as often as it is seen"
    assert says["weighed"] > 0.6, "and so it is what the model answers: its recall is 1, not 0"


def _probability(base: Path, adapter: Path, row: Row) -> float:
    """What a trained model gives the first token of a row's answer."""
    from slmcompile.models.merge import load_merged

    model = load_merged(base, adapter)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.prompt_ids])).logits[0, -1]
    return float(torch.softmax(logits, -1)[row.input_ids[len(row.prompt_ids)]])


def test_validation_is_cross_entropy_whatever_is_minimised(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """At a learning rate that moves nothing all losses have the same validation."""
    still = {"learning_rate": 1e-12, "max_steps": 2, "eval_steps": 1}
    found = {
        name: run(recipe(**still, loss=loss), base, data, tmp_path / name)
        for name, loss in {
            "plain": {},
            "smoothed": {"label_smoothing": 0.3},
            "focal": {"type": "focal"},
            "weighed": {"class_weights": {"on": 9.0}},
        }.items()
    }
    plain = found.pop("plain")
    assert "objective" not in plain.to_json()
    assert "cross_entropy" not in plain.to_json()["curve"][0]
    for name, record in found.items():
        assert record.best_eval_loss == pytest.approx(plain.best_eval_loss, rel=1e-5), name
        (first, *_), (other, *_) = record.curve, plain.curve
        assert first.cross_entropy == pytest.approx(other.loss, rel=1e-5), name
        assert first.loss != pytest.approx(other.loss, rel=1e-4), name
        assert record.to_json()["objective"] == record.objective != ""


def test_members_of_one_pass_minimise_each_its_own(base: Path, data: Path, tmp_path: Path) -> None:
    """Beside each other they learn what each learns alone."""
    from slmcompile.console.progress import Silent
    from slmcompile.training.group import Member
    from slmcompile.training.loop import train_together
    from slmcompile.training.record import TrainRuntime

    losses: dict[str, dict[str, Any]] = {
        "plain": {}, "focal": {"type": "focal"}, "smooth": {"label_smoothing": 0.2},
    }  # fmt: skip
    more = {"max_steps": 4, "lora": Lora(r=4)}

    def member(name: str, folder: Path) -> Member:
        out = folder / name
        out.mkdir(parents=True)
        config = recipe(**more, loss=losses[name])
        return Member(name, config, data, out, folder / f"scratch-{name}", name)

    def together(names: Sequence[str], folder: Path) -> dict[str, dict[str, torch.Tensor]]:
        members = [member(name, folder) for name in names]
        train_together(members, base, TrainRuntime(), Silent(), lambda *_: None, CPU)
        return {each.name: load_file(each.out / "adapter_model.safetensors") for each in members}

    beside = together(list(losses), tmp_path / "beside")
    for name in losses:
        alone = together([name], tmp_path / name)[name]
        for weight, value in alone.items():
            torch.testing.assert_close(beside[name][weight], value, rtol=1e-3, atol=2e-5)
    digest = {n: hashlib.sha256(repr(sorted(beside[n].items())).encode()).digest() for n in losses}
    assert len(set(digest.values())) == 3
