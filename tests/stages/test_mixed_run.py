"""A recipe whose target has weights of both widths: trained, measured, chosen, built, answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmcompile.files.artifact import read_manifest
from tests.projects import make_project
from tests.run_stages import run_stages

pytest.importorskip("torch")

RECIPE = """
defaults:
  - model: tiny-llama
  - data: tiny-commands
  - train: tiny
  - eval: structured
  - target: [cpu-mixed, cpu-int8]
  - track: none
  - _self_
eval: {max_new_tokens: 8, base_model: false, baselines: false}
target:
  cpu-mixed: {bits_per_weight: 5.6}
  larger: {execution_provider: cpu, precision: mixed, bits_per_weight: 9.0}
"""


def test_one_measurement_makes_folders_of_two_sizes(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    (root / "recipes/both.yaml").write_text(RECIPE, encoding="utf-8")
    said = run_stages(root, "both")
    assert "validation rows; measuring it in 4 bits" in said
    outputs = root / "outputs/both"
    probes = json.loads((outputs / "probe-cpu-mixed/probes.json").read_text(encoding="utf-8"))
    assert not (outputs / "probe-larger").exists()
    assert 0 < probes["rows"] <= 64
    infos = {name: read_manifest(outputs / f"export-{name}")["info"] for name in (
        "cpu-mixed", "larger", "cpu-int8",
    )}  # fmt: skip
    small, large = infos["cpu-mixed"]["mixture"], infos["larger"]["mixture"]
    costs = {each["name"]: each["divergence"] for each in small["groups"]}
    assert costs == {name: cost["divergence"] for name, cost in probes["groups"].items()}
    assert {each["bits"] for each in small["groups"]} == {4, 8}
    assert {each["bits"] for each in large["groups"]} == {8}
    assert 5 < small["bits_per_weight"] <= 5.6
    assert small["nll"] == large["nll"] == probes["nll"]
    sizes = [infos[name]["weights_bytes"] for name in ("cpu-mixed", "larger", "cpu-int8")]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]
    for name in ("cpu-mixed", "larger"):
        path = root / f"pipelines/both/metrics/{name}.json"
        assert json.loads(path.read_text(encoding="utf-8"))["exact_match"] > 0.5
    report = (outputs / "report/report.md").read_text(encoding="utf-8")
    assert "cpu-mixed" in report
