"""Training stops when validations stop getting better, by the loss or by the task's own metric."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slmcompile.console.errors import BadDataError, SlmcompileError
from slmcompile.console.progress import Silent
from slmcompile.data.store import Row, read_split, write_split
from slmcompile.inference.torch_model import TorchModel, stop_ids
from slmcompile.methods.early_stopping import BestBy
from slmcompile.methods.lora import Lora
from slmcompile.metrics import METRICS
from slmcompile.models.merge import load_merged
from slmcompile.scoring.records import Asked, Beside
from slmcompile.training.group import Member, open_group
from slmcompile.training.grouped_lora import only
from slmcompile.training.loop import train_together
from slmcompile.training.record import TrainingRecord, TrainRuntime, record_from_json
from slmcompile.training.task_metric import Answering
from tests.answering import answered, scored
from tests.families import FAMILIES, build
from tests.sections import train_section
from tests.stages.test_training import Heard, contradicted, digests
from tests.stages.tiny_training import CPU, make_base, make_data, make_tokenizer

LONG: dict[str, Any] = {
    "learning_rate": 1e-2,
    "max_steps": 40,
    "eval_steps": 5,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "lr_scheduler_type": "cosine",
    "num_threads": 1,
}
OnLog = Callable[[int, dict[str, float]], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_data(tmp_path_factory.mktemp("data"))
    # What a validation measures is held against what the stages measure on the test split.
    write_split(folder, "test", read_split(folder, "validation"))
    return folder


@pytest.fixture(scope="module")
def overfits(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose validation gets worse from some step on."""
    return contradicted(data, tmp_path_factory.mktemp("overfits") / "data")


def answering(metric: str, base: Path, **changes: Any) -> Answering:
    settings: dict[str, Any] = {
        "asked": Asked("generation", None, ()),
        "labelled": False,
        "seed": 0,
        "max_new_tokens": 4,
        "batch_size": 16,
        "read": Beside({}, {"base": base}),
    }
    return Answering(METRICS[metric], **settings | changes)


def member(
    folder: Path, base: Path, data: Path, name: str = "", answers: Any = None, **changes: Any
) -> Member:
    config = train_section(**{**LONG, **changes})
    if config.metric_for_best_model != "loss":
        limit = {"limit": config.eval_limit}
        answers = answering(config.metric_for_best_model, base, **limit | (answers or {}))
    out = folder / (f"out/{name}" if name else "adapter")
    out.mkdir(parents=True, exist_ok=True)
    scratch, identity = folder / f"scratch{name}", f"identity {name}"
    return Member(name, config, data, out, scratch, identity, answering=answers)


def run(
    one: Member, base: Path, on_log: OnLog = lambda step, values: None, heard: Silent | None = None
) -> TrainingRecord:
    runtime = TrainRuntime(save_steps=4, logging_steps=1)
    return train_together([one], base, runtime, heard or Silent(), on_log, CPU)[one.name]


def validations(record: TrainingRecord, key: str = "eval_loss") -> dict[int, float]:
    points = {point.step: getattr(point, key) for point in record.curve}
    return {step: value for step, value in points.items() if value is not None}


def stops_at(measured: Mapping[int, float], patience: int, *, higher: bool) -> int:
    """The step at which patience is used up, by the definition alone."""
    best, waited = None, 0
    for step, value in measured.items():
        if best is None or (value > best if higher else value < best):
            best, waited = value, 0
        else:
            waited += 1
        if waited == patience:
            return step
    raise AssertionError("never")


# --- when it stops --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_run(
    base: Path, overfits: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingRecord]:
    """To the last step, whatever the validations say."""
    folder = tmp_path_factory.mktemp("long")
    return folder, run(member(folder, base, overfits), base)


def test_it_stops_where_patience_is_used_up_with_the_weights_of_the_best_validation(
    base: Path, overfits: Path, long_run: tuple[Path, TrainingRecord], tmp_path: Path
) -> None:
    unstopped = validations(long_run[1])
    stop = stops_at(unstopped, 2, higher=False)
    heard = Heard()
    record = run(member(tmp_path, base, overfits, early_stopping_patience=2), base, heard=heard)
    assert 10 < stop < 40
    assert record.steps == stop
    # It is the beginning of the longer run: the learning rate falls as if training went on.
    assert validations(record) == {step: unstopped[step] for step in unstopped if step <= stop}
    assert record.saved_step == record.best_step == min(unstopped, key=lambda s: unstopped[s])
    assert digests(tmp_path) == digests(long_run[0])
    assert record.early_stopping == {
        "patience": 2, "threshold": 0.0, "planned_steps": 40, "stopped": True,
    }  # fmt: skip
    (told,) = [line for line in heard.lines if "stopped early" in line]
    assert f"at step {stop} of 40: 2 validations in a row" in told
    assert record_from_json(record.to_json()) == record


def test_patience_that_is_never_used_up_changes_nothing_but_the_record(
    base: Path, overfits: Path, long_run: tuple[Path, TrainingRecord], tmp_path: Path
) -> None:
    record = run(member(tmp_path, base, overfits, early_stopping_patience=9), base)
    assert record.steps == 40
    assert digests(tmp_path) == digests(long_run[0])
    assert record.early_stopping is not None
    assert not record.early_stopping["stopped"]
    asked, unasked = set(record.to_json()), set(long_run[1].to_json())
    assert asked - unasked == {"early_stopping"}
    assert "eval_metric" not in long_run[1].to_json()["curve"][0]


METRIC: dict[str, Any] = {
    "metric_for_best_model": "exact_match",
    "early_stopping_patience": 2,
    "max_steps": 120,
}


@pytest.fixture(scope="module")
def stopped(
    base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingRecord]:
    """A run that exact match over the answers stops; in bf16, with dropout."""
    folder = tmp_path_factory.mktemp("stopped")
    one = member(folder, base, data, precision="bf16", lora=Lora(lora_dropout=0.1), **METRIC)
    return folder, run(one, base)


def test_a_metric_over_answers_stops_it_and_the_first_of_the_best_is_kept(
    stopped: tuple[Path, TrainingRecord],
) -> None:
    record = stopped[1]
    measured = validations(record, "eval_metric")
    assert record.steps == stops_at(measured, 2, higher=True) < 120
    assert sorted(measured) == list(range(5, record.steps + 1, 5))
    assert measured[5] < measured[record.best_step] == record.best_metric == max(measured.values())
    assert record.best_step == min(s for s in measured if measured[s] == record.best_metric)
    assert record.best_eval_loss == validations(record)[record.best_step]
    assert record.answers == 80 * len(measured)


@pytest.mark.parametrize("kill", ["before the step", "at the step", "behind its validation"])
def test_a_run_that_is_killed_around_the_stop_ends_as_if_it_had_not_been(
    base: Path, data: Path, stopped: tuple[Path, TrainingRecord], tmp_path: Path, kill: str
) -> None:
    whole = stopped[1]
    at = whole.steps - (kill == "before the step")
    asked: list[int] = []

    def on_log(step: int, values: dict[str, float]) -> None:
        if step == at and ("eval_loss" in values) == (kill == "behind its validation"):
            asked.append(step)
            signal.raise_signal(signal.SIGTERM)

    one = member(tmp_path, base, data, precision="bf16", lora=Lora(lora_dropout=0.1), **METRIC)
    with pytest.raises(SlmcompileError, match=f"terminated at step {at}"):
        run(one, base, on_log)
    record = run(one, base)
    assert asked == [at] == [record.resumed_from]
    assert digests(tmp_path) == digests(stopped[0])
    assert validations(record, "eval_metric") == validations(whole, "eval_metric")
    assert (record.steps, record.answers) == (whole.steps, whole.answers)
    assert record.early_stopping == whole.early_stopping


def test_a_kill_while_answers_are_generated_is_heard_and_made_good(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = TorchModel._greedy, []

    def greedy(self: TorchModel, *rest: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(self, *rest)

    settings = {"max_steps": 10, "metric_for_best_model": "exact_match", "eval_limit": 40}
    undisturbed = run(member(tmp_path / "a", base, data, **settings), base)
    monkeypatch.setattr(TorchModel, "_greedy", greedy)
    with pytest.raises(SlmcompileError, match="terminated at step 5"):
        run(member(tmp_path / "b", base, data, **settings), base)
    assert len(asked) == 2
    record = run(member(tmp_path / "b", base, data, **settings), base)
    assert validations(record, "eval_metric") == validations(undisturbed, "eval_metric")
    assert record.answers == 80
    assert digests(tmp_path / "b") == digests(tmp_path / "a")


# --- what is measured -----------------------------------------------------------------------------


def as_score_has_it(folder: Path, base: Path, data: Path, trained: Path, metric: str) -> float:
    inputs = {"data": data, "base": base, "train": trained}
    answers = answered(folder, "torch", inputs, batch_size=16)
    result, _ = scored(folder, data, {"torch": answers}, {"base": base}, metrics=[metric])
    return float((result.metrics or {})["torch"][metric])


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("metric", ["exact_match", "accuracy", "perplexity", "bits_per_byte"])
def test_the_metric_of_the_kept_weights_is_what_answer_and_score_find(
    base: Path, data: Path, tmp_path: Path, metric: str, method: str
) -> None:
    # Few steps, so that some answers are wrong.
    rate = {"learning_rate": 2e-3} if method == "full" else {}
    one = member(
        tmp_path, base, data, metric_for_best_model=metric, max_steps=24, eval_steps=8,
        method=method, **rate,
    )  # fmt: skip
    if method == "full":
        one.out.rmdir()
        one = replace(one, out=tmp_path / "model")
        one.out.mkdir()
    record = run(one, base)
    found = as_score_has_it(tmp_path, base, data, tmp_path, metric)
    assert record.best_metric == pytest.approx(found, rel=1e-5)
    assert len(set(validations(record, "eval_metric").values())) > 1
    exact = METRICS[metric].needs != "likelihood"
    assert not exact or record.best_metric == found


@pytest.mark.parametrize(
    ("method", "metric"),
    [("lora", "exact_match"), ("lora", "perplexity"), ("qlora", "exact_match")],
)
def test_measuring_changes_nothing_of_what_is_learnt(
    base: Path, data: Path, tmp_path: Path, method: str, metric: str
) -> None:
    settings: dict[str, Any] = {
        "max_steps": 8,
        "eval_steps": 3,
        "precision": "bf16",
        "load_best_model_at_end": False,
        "lora": Lora(r=4, lora_dropout=0.1),
        "gradient_checkpointing": True,
        "method": method,
    }
    plain = run(member(tmp_path / "plain", base, data, **settings), base)
    settings["metric_for_best_model"] = metric
    measured = run(member(tmp_path / "measured", base, data, **settings), base)
    assert digests(tmp_path / "measured") == digests(tmp_path / "plain")
    assert validations(measured) == validations(plain)
    assert sorted(validations(measured, "eval_metric")) == [3, 6, 8]


def test_a_sample_of_the_split_is_the_one_that_an_evaluation_would_take(
    base: Path, data: Path, tmp_path: Path
) -> None:
    limited = {"metric_for_best_model": "exact_match", "eval_limit": 24}
    settings: dict[str, Any] = {"max_steps": 10, "load_best_model_at_end": False}
    one = member(tmp_path, base, data, answers={"labelled": True}, **settings, **limited)
    record = run(one, base)
    inputs = {"data": data, "base": base, "train": tmp_path}
    answers = answered(tmp_path, "torch", inputs, batch_size=16, limit=24, labelled=True)
    result, _ = scored(tmp_path, data, {"torch": answers}, metrics=["exact_match"], labelled=True)
    measured = validations(record, "eval_metric")
    assert measured[10] == (result.metrics or {})["torch"]["exact_match"]
    assert record.answers == 24 * len(measured)


def test_a_metric_that_no_row_can_be_measured_by_is_said_before_training(
    base: Path, data: Path, tmp_path: Path
) -> None:
    rows = read_split(data, "validation")
    (tmp_path / "data").mkdir()
    write_split(tmp_path / "data", "train", rows)
    documents = [replace(row, document=True) for row in rows]
    write_split(tmp_path / "data", "validation", documents)
    one = member(tmp_path, base, tmp_path / "data", metric_for_best_model="exact_match")
    with pytest.raises(BadDataError, match="no row that asks for an answer"):
        run(one, base)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_model_that_trains_says_what_the_merged_one_says(
    tmp_path: Path, data: Path, family: str
) -> None:
    """In every family, of two learners each by its own adapter: token by token."""
    base = tmp_path / "base"
    build(family, vocab_size=512, max_position_embeddings=128, eos_token_id=1).save_pretrained(base)
    make_tokenizer().save_pretrained(base)
    some = [member(tmp_path, base, data, name, lora=Lora(r=4)) for name in ("one", "two")]
    group = open_group(some, base, CPU)
    rows = read_split(data, "validation")[:12]
    spoken = []
    for number, one in enumerate(some):
        own = {n: w for n, w in group.model.named_parameters() if f".{one.adapter}." in n}
        for name, weight in sorted(own.items()):
            torch.manual_seed(number + len(name))
            torch.nn.init.normal_(weight, std=0.2)
        group.method.write(group.model, own, base, one.out, one.adapter)
    for one in some:
        with only(group.session._model, one.adapter):
            live = answers_of(group.session._model, base, rows)
        merged = answers_of(load_merged(base, one.out), base, rows)
        assert live == merged
        spoken.append(live)
    assert spoken[0] != spoken[1]


def answers_of(model: Any, base: Path, rows: Sequence[Row]) -> list[list[int]]:
    speaker = TorchModel(model, stop_ids(base))
    found = speaker.generate([row.prompt_ids for row in rows], 6, 5, lambda _: None)
    return [answer.ids for answer in found]


# --- several learners -----------------------------------------------------------------------------


def test_learners_are_measured_and_stopped_each_by_itself(
    base: Path, data: Path, overfits: Path, tmp_path: Path
) -> None:
    """Alone, together and in passes of their own: the same metrics, and the same last steps."""
    shapes: dict[str, dict[str, Any]] = {
        "quick": {"lora": Lora(r=16), **METRIC},
        "slow": {
            "lora": Lora(r=4, target_modules=("q_proj",)),
            "metric_for_best_model": "exact_match",
            "max_steps": 25,
        },
        "loss": {"lora": Lora(r=8), "early_stopping_patience": 2},
    }

    def members(folder: Path) -> list[Member]:
        rows = {"loss": overfits}
        return [
            member(folder, base, rows.get(name, data), name, **shape)
            for name, shape in shapes.items()
        ]

    runtime = TrainRuntime(save_steps=4, logging_steps=1)

    def together(where: Path, some: list[Member]) -> dict[str, TrainingRecord]:
        records = train_together(some, base, runtime, Silent(), lambda *_: None, CPU, isolated=True)
        assert set(records) == {each.name for each in some}, where
        return records

    records = together(tmp_path, members(tmp_path / "all"))
    steps = {name: record.steps for name, record in records.items()}
    assert steps["slow"] == 25
    assert 25 < steps["quick"] < 120
    assert steps["loss"] < 40
    assert len(set(steps.values())) > 1
    for one in members(tmp_path / "each"):
        alone = together(tmp_path, [one])[one.name]
        beside = records[one.name]
        for key in ("eval_loss", "eval_metric"):
            assert validations(beside, key) == validations(alone, key)
        assert (beside.steps, beside.saved_step) == (alone.steps, alone.saved_step)
        weights = [tmp_path / each / "out" / one.name / "adapter_model.safetensors"
                   for each in ("all", "each")]  # fmt: skip
        assert weights[0].read_bytes() == weights[1].read_bytes()
    measured = validations(records["slow"], "eval_metric")
    assert measured != validations(records["quick"], "eval_metric")


# --- the rule -------------------------------------------------------------------------------------


def test_small_steps_use_up_patience_and_are_still_the_best() -> None:
    by = BestBy("exact_match", patience=2, threshold=0.05)
    best, waited = None, 0
    for value, expected in ((0.5, 0), (0.54, 1), (0.60, 0), (0.60, 1), (0.64, 2)):
        waited = by.waited(value, best, waited)
        assert waited == expected
        best = value if by.is_better(value, best) else best
    assert by.is_over(waited)
    assert best == 0.64


def test_the_direction_is_the_metrics_own() -> None:
    assert BestBy().is_better(0.1, 0.2)
    assert BestBy("perplexity").is_better(1.5, 2.0)
    assert BestBy("cut_off").is_better(0.0, 0.1)
    assert BestBy("bleu").is_better(31.0, 30.0)
    assert not BestBy("bleu").is_better(30.0, 30.0)


@pytest.mark.parametrize(("max_steps", "patience", "can"), [
    (40, 6, True), (40, 7, False), (41, 7, True), (5, 1, False), (11, 1, True), (10, 1, False),
])  # fmt: skip
def test_patience_can_be_used_up_only_before_the_last_step(
    max_steps: int, patience: int, can: bool
) -> None:
    assert BestBy(patience=patience).can_stop(max_steps, 5) == can
