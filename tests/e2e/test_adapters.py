"""Several adapters over one base, from a recipe to answers; one joins, one leaves, one diverges.

The tests of this module go through one project in order, as a person would.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from tests.projects import commit, make_repository, slmcompile
from tests.workplace import Workplace

GROUP = """
defaults:
  - /data: tiny-commands
  - /eval: structured
eval: {max_new_tokens: 8, base_model: false, baselines: false}
"""
RECIPE = """
defaults:
  - model: tiny-llama
  - train: tiny
%s
  - target: [cpu-fp32]
  - track: none
  - _self_
train: {num_train_epochs: 5, learning_rate: 5e-3}
adapters:
%s
  two: {train: {lora: {r: 4}, per_device_train_batch_size: 4}, data: {seed: 7}}
gates:
  - {adapter: one, metric: exact_match, min: 0.5}
"""
OF_ONE = {"answer-cpu-fp32--one", "answer-torch--one", "export-cpu-fp32--one"}


def write(root: Path, *members: str) -> None:
    listed = "\n".join(f"  - adapter@adapters.{name}: commands" for name in members)
    third = "  three: {data: {seed: 9}}" if "three" in members else ""
    (root / "recipes/trio.yaml").write_text(RECIPE % (listed, third), encoding="utf-8")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    (root / "conf/adapter").mkdir(exist_ok=True)
    (root / "conf/adapter/commands.yaml").write_text(GROUP, encoding="utf-8")
    write(root, "one", "two")
    commit(root, "a recipe with two adapters")
    return Workplace(root, "trio")


def weights(work: Workplace) -> dict[str, str]:
    folder = work.root / "outputs/trio/train/adapters"
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*/adapter_model.safetensors"))
    }


def test_each_adapter_is_trained_measured_exported_and_measured_again(work: Workplace) -> None:
    done = work.run("run", "trio", "--json")
    ran = work.ran()
    assert ran >= {"train", "data", "score", "report", "gate", *OF_ONE}
    assert sum(name.startswith("answer-") for name in ran) == 4
    training = json.loads((work.root / "pipelines/trio/metrics/train.json").read_text())["members"]
    assert set(training) == {"one", "two"}
    for name in training:
        assert training[name]["train_loss_last"] < 0.5 * training[name]["train_loss_first"]
        torch, onnx = (
            json.loads((work.root / f"pipelines/trio/metrics/{each}.json").read_text())["members"]
            for each in ("torch", "cpu-fp32")
        )
        assert torch[name]["exact_match"] >= 0.8
        assert onnx[name]["exact_match"] == torch[name]["exact_match"]
    assert training["one"]["trainable_parameters"] > 2 * training["two"]["trainable_parameters"]
    assert json.loads(done.stdout)["artifacts"]["one"]["torch"]["exact_match"] >= 0.8


def test_a_second_run_runs_nothing(work: Workplace) -> None:
    assert set(work.plan().values()) == {"unchanged"}
    work.run("run", "trio")
    assert work.ran() == set()


def test_over_another_base_nobody_is_taken_as_before(work: Workplace) -> None:
    planned = json.loads(work.run("plan", "trio", "train.over=cpu-fp32", "--json").stdout)
    (train,) = (each for each in planned["stages"] if each["kind"] == "train")
    assert not train.get("kept")


def test_people_see_and_ask_each_adapter(work: Workplace) -> None:
    shown = json.loads(slmcompile(work.root, "show", "trio", "--json").stdout)["adapters"]
    assert shown["one"]["gates"][0]["passed"]
    assert not shown["two"]["gates"]
    assert set(shown["two"]["artifacts"]) == {"torch", "cpu-fp32"}
    asked = ("generate", "trio", "turn on the lamp")
    answer = slmcompile(work.root, *asked, "--adapter", "two").stdout.strip()
    assert answer == "on"
    unnamed = slmcompile(work.root, *asked, check=False)
    assert unnamed.returncode == Exit.USAGE
    assert "--adapter one" in unnamed.stderr
    report = (work.root / "outputs/trio/report/report.html").read_text(encoding="utf-8")
    for name in ("one", "two"):
        assert f'href="{name}/report.html"' in report
        assert (work.root / f"outputs/trio/report/{name}/report.html").is_file()


def test_an_adapter_that_joins_retrains_and_asks_nobody_else(work: Workplace) -> None:
    before = weights(work)
    write(work.root, "one", "two", "three")
    planned = json.loads(slmcompile(work.root, "plan", "trio", "--json").stdout)
    (train,) = (each for each in planned["stages"] if each["kind"] == "train")
    assert train["kept"] == ["one", "two"]
    will = {each["stage"] for each in planned["stages"] if each["action"] == "run"}
    assert not {f"trio/{name}" for name in OF_ONE} & will
    work.ran()
    work.run("run", "trio")
    after = weights(work)
    assert set(after) == {"one", "two", "three"}
    assert {name: after[name] for name in before} == before
    assert {stage for stage in work.ran() if stage.startswith(("answer-", "export-"))} == {
        "export-cpu-fp32--three", "answer-torch--three", "answer-cpu-fp32--three",
    }  # fmt: skip


def test_an_adapter_that_leaves_retrains_nobody(work: Workplace) -> None:
    before = weights(work)
    write(work.root, "two", "three")
    (work.root / "recipes/trio.yaml").write_text(
        (work.root / "recipes/trio.yaml").read_text().replace("adapter: one", "adapter: three")
    )
    work.run("run", "trio")
    assert weights(work) == {name: before[name] for name in ("two", "three")}
    assert not {stage for stage in work.ran() if stage.startswith(("answer-", "export-"))}


def test_one_that_is_changed_is_trained_beside_those_that_are_not(work: Workplace) -> None:
    before = weights(work)
    work.run("run", "trio", "adapters.two.train.lora.r=8")
    after = weights(work)
    assert after["three"] == before["three"]
    assert after["two"] != before["two"]
    assert {stage for stage in work.ran() if stage.startswith("answer-")} == {
        "answer-torch--two", "answer-cpu-fp32--two",
    }  # fmt: skip


def test_apart_each_has_a_training_of_its_own_and_isolated_the_same_bytes(work: Workplace) -> None:
    work.run("run", "trio", "train.isolated=true", "--select", "train")
    together = weights(work)
    shutil.rmtree(work.root / ".slmcompile/scratch")
    work.run("run", "trio", "train.together=false", "--select", "train--two train--three")
    apart = {
        name: hashlib.sha256(
            (
                work.root / f"outputs/trio/train--{name}/adapter/adapter_model.safetensors"
            ).read_bytes()
        ).hexdigest()
        for name in ("two", "three")
    }
    assert apart == together
