"""What is known of a target for Qualcomm's neural processor before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmcompile.cli.main import main
from slmcompile.console.errors import MissingError
from slmcompile.data.store import Row, write_split
from slmcompile.providers import PROVIDERS
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.qnn import QnnTarget, fault
from slmcompile.scoring.compared import answered_by
from slmcompile.shapes.architecture import Architecture
from slmcompile.stages.export import _calibration
from tests.projects import make_project
from tests.unit.checks.data_contexts import MODEL, data_facts, planned, verdict

QNN = "target=[qnn-w8a16]"


def model(**config: Any) -> Architecture:
    told = {"model_type": "llama", "hidden_act": "silu", "max_position_embeddings": 1024, **config}
    return Architecture(told, {}, {}, {}, {})


@pytest.mark.parametrize(
    ("keys", "config", "key", "why"),
    [
        ({"sequence_length": 100}, {}, "sequence_length", "does not divide a context of 512"),
        (
            {"sequence_length": 64, "context_length": 64},
            {},
            "sequence_length",
            "into two or more",
        ),
        ({"context_length": 2048}, {}, "context_length", "longer than the model's, 1024"),
        ({}, {"model_type": "mistral", "sliding_window": 128}, "context_length", "window of 128"),
        ({}, {"hidden_act": "relu"}, "execution_provider", "activation 'relu'"),
        (
            {},
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            "execution_provider",
            "follows the length",
        ),
        (
            {},
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "execution_provider",
            "a part of each head",
        ),
    ],
)
def test_what_a_graph_of_fixed_shapes_cannot_have_is_refused(
    keys: dict[str, Any], config: dict[str, Any], key: str, why: str
) -> None:
    found = fault(QnnTarget(**keys), model(**config))
    assert found is not None
    assert found[0] == key
    assert why in found[1]


def test_what_it_can_have_is_not() -> None:
    for config in (
        {},
        {"model_type": "qwen2", "sliding_window": 128},  # of layers that use none
        {"model_type": "mistral", "sliding_window": None},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}},
    ):
        assert fault(QnnTarget(), model(**config)) is None, config


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package counts as installed, wherever this runs."""
    from slmcompile.plans import installed as asked

    found = asked._version

    def with_qnn(name: str, when: tuple[int, ...]) -> str:
        return "2.7.0" if name == "onnxruntime-qnn" else found(name, when)

    monkeypatch.setattr(asked, "_version", with_qnn)


@pytest.mark.usefixtures("installed")
def test_a_row_that_does_not_fit_the_graph_is_refused_by_its_key(project: Path) -> None:
    rows = {"lengths": {"total": {"max": 70, "mean": 9.0}}, "max_length": 128}
    keys = "target.qnn-w8a16.context_length=64"
    context = planned(project, QNN, keys, data=data_facts(rows), model=MODEL)
    found = verdict(15, context)
    assert found.outcome == "refuted"
    assert "the longest row has 70 tokens" in found.evidence
    assert "room for 64" in found.evidence
    assert "target.qnn-w8a16.context_length" in found.where
    assert found.code == 78
    wider = planned(project, QNN, data=data_facts(rows), model=MODEL)
    assert verdict(15, wider).outcome == "proved"


@pytest.mark.usefixtures("installed")
def test_a_context_that_the_model_does_not_have_is_refused_before_training(project: Path) -> None:
    found = verdict(12, planned(project, QNN, "target.qnn-w8a16.context_length=2048"))
    assert found.outcome == "refuted"
    assert "longer than the model's" in found.evidence
    assert "context_length" in found.where
    assert found.mend == "choose another target.qnn-w8a16.context_length"


def test_where_the_package_is_missing_plan_and_targets_say_how_to_get_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slmcompile.plans import installed as asked

    found = asked._version

    def without_qnn(name: str, when: tuple[int, ...]) -> str:
        if name == "onnxruntime-qnn":
            extra = asked._EXTRAS[name]
            raise MissingError(f"the package {name} is not installed", f"slmcompile[{extra}]")
        return found(name, when)

    monkeypatch.setattr(asked, "_version", without_qnn)
    assert main(["targets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["targets"]
    (here,) = (each for each in listed if each["provider"] == "qnn")
    assert here["word"] == "missing"
    assert "slmcompile[qnn]" in here["why"]
    monkeypatch.chdir(project)
    assert main(["plan", "tiny", QNN]) == 69
    assert "slmcompile[qnn]" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_with_the_package_it_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["targets"]
    (here,) = (each for each in listed if each["provider"] == "qnn")
    assert (here["word"], here["precision"]) == ("simulated", "w8a16")
    assert "onnxruntime-qnn simulates it" in here["why"]


def test_ranges_come_from_all_over_the_rows_of_training_and_from_no_other(tmp_path: Path) -> None:
    def rows(first: int, count: int) -> list[Row]:
        return [Row(first + n, "", "", "", [1], [1, 2], [-100, 2]) for n in range(count)]

    write_split(tmp_path, "train", rows(0, 100))
    write_split(tmp_path, "test", rows(1000, 50))
    found = _calibration(QnnTarget(calibration_rows=4), tmp_path)
    assert [row.id for row in found] == [0, 25, 50, 75]
    assert len(_calibration(QnnTarget(calibration_rows=4096), tmp_path)) == 100
    assert _calibration(CpuTarget(precision="int8"), tmp_path) == []


def test_who_answered_is_said_in_a_word() -> None:
    said = answered_by({"a": "simulated", "b": "verified", "c": "emulated", "d": "simulated"})
    assert "Verified: b: answered here" in said
    assert "Simulated: a, d: the vendor's simulator" in said
    assert "Emulated: c: the CPU provider ran the very graph" in said
    assert answered_by({}) == ""


def test_only_this_provider_has_fixed_shapes_and_a_simulator() -> None:
    found = {p.name for p in PROVIDERS.values() if p.simulator}
    assert found == {"qnn"}
    assert PROVIDERS["qnn"].room(QnnTarget(context_length=64, sequence_length=32)) == 64
