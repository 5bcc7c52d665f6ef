"""Targets for graphics processors: built here, and their very graphs answered by the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.progress import Silent
from slmcompile.export.export import export
from slmcompile.inference import onnx_model
from slmcompile.providers import PROVIDERS
from slmcompile.providers.accelerators import IN_CONFIG
from slmcompile.providers.keys import AUTO
from slmcompile.recipe.schema import target_section
from tests.tiny_model import make_rows

torch = pytest.importorskip("torch")

PAIRS = [
    (name, precision)
    for name in ("cuda", "dml", "webgpu", "trt-rtx")
    for precision in PROVIDERS[name].section.model_fields["precision"].annotation.__args__
    if precision != AUTO
]

BOUNDS = {"fp16": 1e-4, "bf16": 1e-3, "int8": 0.01, "int4": 0.6}
"""Most nats that a graph's likelihoods lie from torch's, by its precision."""


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_a_graph_for_another_processor_answers_here_as_torch_does(
    base: Path, adapter: Path, tmp_path: Path, name: str, precision: str
) -> None:
    target = target_section({"execution_provider": name, "precision": precision})
    out = tmp_path / "out"
    out.mkdir()
    prompt = tmp_path / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    rows = make_rows(base)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    info: dict[str, Any] = export(target, base, adapter, prompt, rows, out, scratch, Silent())
    assert info["execution_provider"] == name
    assert info["parity"]["mean_kl"] < BOUNDS[precision]
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))
    (provider,) = config["model"]["decoder"]["session_options"]["provider_options"]
    assert IN_CONFIG[next(iter(provider))] == name
    model = onnx_model.load(out, 1)
    assert model.ran == ("generated" if precision == "bf16" else "emulated")
    (answer,) = model.generate([rows[0].prompt_ids], 4, 1, lambda _: None)
    assert answer.ids


def test_what_the_cpu_runs_for_itself_is_verified(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    target = target_section({"execution_provider": "cpu", "precision": "int8"})
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    prompt = tmp_path / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    export(target, base, adapter, prompt, make_rows(base), out, scratch, Silent())
    assert onnx_model.load(out, 1).ran == "verified"
