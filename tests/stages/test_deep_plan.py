"""``plan --deep`` reads the rows and builds the model, in a child process, and writes nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import slmcompile
from slmcompile.checks.registry import Finding
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.facts import deep, deep_child
from slmcompile.facts.deep import deepened
from tests.projects import command, environment, make_project, plant_modules
from tests.tiny_model import make_base
from tests.unit.checks.data_contexts import planned

pytest.importorskip("torch")

STARTED = ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system")

PROGRAM = f"""
import json, sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in {STARTED!r} else None)
import slmcompile
planned = slmcompile.plan("local", deep=sys.argv[1] == "deep")
outcomes = {{f.check.number: f.verdict.outcome for f in planned.findings}}
print(json.dumps({{"started": started, "outcomes": outcomes, "undone": planned.undone}}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that holds its base model, so that no stage must fetch it first."""
    folder = make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))
    shutil.copytree(make_base(tmp_path_factory.mktemp("model")), folder / "models" / "tiny")
    (folder / "recipes" / "local.yaml").write_text(
        "defaults: [data: tiny-commands, train: tiny, eval: structured, target: [cpu-fp32],"
        " _self_]\n"
        "model:\n  name: local\n  license: Apache-2.0\n"
        "  source: {type: folder, path: models/tiny}\n",
        encoding="utf-8",
    )
    return folder


def plan(project: Path, how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=project, env=environment(), text=True, capture_output=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def everything(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def test_only_a_deep_plan_starts_a_process_and_neither_writes(project: Path) -> None:
    before = everything(project)
    shallow = plan(project, "shallow")
    assert shallow["started"] == []
    assert shallow["undone"] == ""
    deepest = plan(project, "deep")
    assert "subprocess.Popen" in deepest["started"]
    assert deepest["undone"] == ""
    waited = {n for n, outcome in shallow["outcomes"].items() if outcome == "needs_probe"}
    assert {"2", "3", "4", "5", "6", "14", "15", "16", "22", "27"} <= waited
    assert {deepest["outcomes"][n] for n in waited} == {"proved"}
    assert everything(project) == before


def test_a_deep_plan_ends_with_the_error_that_the_data_stage_would_end_with(
    project: Path,
) -> None:
    words = ("-m", "slmcompile", "plan", "local", "--deep", "data.max_length=8")
    done = command(project, sys.executable, *words, check=False)
    assert done.returncode == Exit.BAD_DATA
    assert re.match(r"error: data/tiny/commands\.jsonl:\d+: 27 tokens, ", done.stderr)
    assert "data.max_length is 8" in done.stderr


def test_modules_in_the_project_are_not_imported(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "project")
    canary = tmp_path / "canary"
    plant_modules(folder, canary)
    done = command(folder, "slmcompile", "plan", "local", "--deep")
    assert "Not looked at" not in done.stdout
    assert not canary.exists()


def by_number(findings: tuple[Finding, ...]) -> dict[int, Finding]:
    return {finding.check.number: finding for finding in findings}


def test_without_a_base_model_no_process_is_started_and_the_base_stage_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "_ask_child", None)
    found = slmcompile.plan("tiny", project=project, deep=True)
    base = found.plan.shared[0].stages[0].address
    assert found.undone == f"rows and model, before {base} has run"
    assert by_number(found.findings)[16].verdict.stage == base


def test_what_the_rows_refute_is_said_with_the_recipes_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child reads a spec, which knows keys and no lines."""
    for said, wanted in (
        ("data.split: too few", "conf/data/tiny-commands.yaml:14: data.split: too few"),
        ("data/rows.jsonl:3: not JSON", "data/rows.jsonl:3: not JSON"),
    ):
        error = {"what": said, "hint": "", "code": int(Exit.BAD_DATA)}
        answer = {"error": error, "data_report": None, "modules": None, "modules_error": ""}
        monkeypatch.setattr(deep, "_ask_child", lambda _, answer=answer: (answer, ""))
        with pytest.raises(SlmcompileError) as caught:
            deepened(planned(project, recipe="local"))
        assert (caught.value.what, caught.value.code) == (wanted, Exit.BAD_DATA)


def test_what_a_check_refutes_is_not_opened_by_a_child_process(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "_ask_child", None)
    override = "data.template.prompt='{txt}'"
    found = slmcompile.plan("local", [override], project=project, deep=True)
    assert by_number(found.findings)[6].blocks
    assert "refutes the recipe already" in found.undone


def test_a_pass_that_takes_too_long_is_ended_and_the_stages_will_decide(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "CPU_SECONDS", 1)
    found = slmcompile.plan("local", project=project, deep=True)
    assert "more than 1 CPU seconds" in found.undone
    assert by_number(found.findings)[16].verdict.outcome == "needs_probe"


def test_the_model_is_known_module_by_module(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names and shapes are those of the model that training loads."""
    from transformers import AutoModelForCausalLM

    base = project / "models" / "tiny"
    real: Any = AutoModelForCausalLM.from_pretrained(base)
    found = deep_child.modules(base)
    kinds = {name: type(module).__name__ for name, module in real.named_modules()}
    shapes = {
        name.removesuffix(".weight"): list(weight.shape)
        for name, weight in real.named_parameters(remove_duplicate=False)
    }
    assert {name: shape for name, (_, shape) in found.items()} == shapes
    assert all(kind == kinds[name] for name, (kind, _) in found.items())
    answer = {"error": None, "data_report": None, "modules": found, "modules_error": ""}
    monkeypatch.setattr(deep, "_ask_child", lambda _: (answer, ""))
    model = deepened(planned(project, recipe="local")).model
    assert model is not None
    assert model.modules is not None
    assert model.modules["lm_head"] == ("Linear", (320, 64))
