"""A choice among candidates: of other providers, of shapes that leave some out, of each adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmcompile.files import artifact
from slmcompile.inference.runs_here import runs_here
from slmcompile.providers import PROVIDERS
from slmcompile.stages.choice import read_frontier
from tests.projects import make_project
from tests.run_stages import run_stages

pytestmark = pytest.mark.long

LIGHT = ("eval.baselines=false", "eval.base_model=false")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path.resolve(), data=("tiny",))


def chosen(root: Path, target: str, *words: str) -> dict[str, Any]:
    """Runs all stages; the frontier, held against what became the export."""
    run_stages(root, "tiny", f"target=[{target}]", *LIGHT, *words)
    found = read_frontier(root / f"outputs/tiny/choose-{target}")
    of = root / f"outputs/tiny/candidate-{target}-{found['chosen']}"
    export = artifact.verify(root / f"outputs/tiny/export-{target}")
    assert export["files"] == artifact.verify(of)["files"]
    sizes = [each["size_bytes"] for each in found["candidates"]]
    assert sizes == sorted(sizes)
    first = next(each for each in found["candidates"] if not each["misses"])
    assert found["chosen"] == first["name"]
    return found


def test_an_emulated_provider_is_chosen_for_by_answers_and_size(root: Path) -> None:
    found = chosen(root, "webgpu-int4", "target.webgpu-int4.precision=auto")
    assert {each["name"] for each in found["candidates"]} == {"int4", "int8", "fp16"}
    measured = json.loads(
        (root / "outputs/tiny/measure-webgpu-int4-int8/measured.json").read_text(encoding="utf-8")
    )
    assert "tokens_per_second" not in measured


def test_llama_cpp_has_candidates_of_its_own(root: Path) -> None:
    if not runs_here("gguf"):
        pytest.skip("llama.cpp (slmcompile[gguf]) is not installed")
    found = chosen(root, "gguf-q8-0", "target.gguf-q8-0.precision=auto")
    assert {each["name"] for each in found["candidates"]} == {"q4-k-m", "q8-0", "f16"}


def test_openvino_has_candidates_of_its_own(root: Path) -> None:
    if not runs_here("openvino"):
        pytest.skip("OpenVINO (slmcompile[openvino]) is not installed")
    found = chosen(root, "openvino-int8", "target.openvino-int8.precision=auto")
    names = {each["name"] for each in found["candidates"]}
    assert {"int4", "int8", "fp16"} <= names
    assert names | {*found["left_out"]} == {*PROVIDERS["openvino"].candidates}


def test_what_the_shapes_do_not_allow_is_left_out_and_the_rest_is_chosen_among(root: Path) -> None:
    # Of 96 columns there are three blocks of 32, and zero points are two to a byte.
    found = chosen(root, "cpu-auto", "model.source.intermediate_size=96")
    left = {"int4-asymmetric", "int4-k-quant", "int4-k-quant-mixed", "mixed"}
    assert {*found["left_out"]} == left
    assert all("zero points" in why for why in found["left_out"].values())
    assert len(found["candidates"]) == 4
    report = (root / "outputs/tiny/report/report.md").read_text(encoding="utf-8")
    assert "int4-k-quant was left out" in report


def test_each_adapter_of_a_recipe_has_a_choice_of_its_own(root: Path) -> None:
    (root / "recipes/both.yaml").write_text(
        "defaults:\n"
        "  - model: tiny-llama\n"
        "  - train: tiny\n"
        "  - eval: structured\n"
        "  - target: [cpu-auto]\n"
        "  - track: none\n"
        "  - data@adapters.one.data: tiny-commands\n"
        "  - data@adapters.two.data: tiny-commands\n"
        "  - _self_\n"
        "eval: {max_new_tokens: 8, base_model: false, baselines: false}\n"
        "adapters: {two: {train: {learning_rate: 1e-9}}}\n"
        "target: {cpu-auto: {candidates: {a: {precision: int4}, b: {precision: int8}}}}\n"
        "default_gates: false\n",
        encoding="utf-8",
    )
    run_stages(root, "both")
    for name in ("one", "two"):
        found = read_frontier(root / f"outputs/both/choose-cpu-auto--{name}")
        of = root / f"outputs/both/candidate-cpu-auto-{found['chosen']}--{name}"
        export = artifact.verify(root / f"outputs/both/export-cpu-auto--{name}")
        assert export["files"] == artifact.verify(of)["files"]
        page = (root / f"outputs/both/report/{name}/report.html").read_text(encoding="utf-8")
        assert "What cpu-auto was chosen among" in page
    first, second = (
        read_frontier(root / f"outputs/both/choose-cpu-auto--{name}")["torch"]["value"]
        for name in ("one", "two")
    )
    assert first > 0.8 > second


def test_an_adapter_that_is_trained_over_a_coarse_base_is_likelier_than_one_that_is_merged(
    root: Path,
) -> None:
    coarse = "{precision: int4, int4_algo_config: rtn, int4_block_size: 64}"
    found = chosen(
        root,
        "cpu-auto",
        f"+target.cpu-auto.candidates={{coarse: {coarse}, plain: {{precision: int8}}}}",
        "+target.cpu-auto.train_over=coarse",
        "eval.metrics=[exact_match,perplexity]",
        "+target.cpu-auto.budget={metric: perplexity, max_drop: 0.001}",
    )
    by_name = {each["name"]: each for each in found["candidates"]}
    assert [*by_name] == ["coarse", "over-coarse", "plain"]
    # Rounding costs a merged adapter likelihood that one learns back.
    assert by_name["over-coarse"]["nll"] < by_name["coarse"]["nll"] / 2
    assert by_name["coarse"]["misses"]
    assert found["chosen"] == "over-coarse"
    assert "its adapter was trained over that base and stands beside it" in found["reason"]
    info = artifact.verify(root / "outputs/tiny/export-cpu-auto")["info"]
    assert (info["adapters"], info["chosen"]) == ("inputs", "over-coarse")
    # It computes with the very weights that were trained over.
    assert info["parity"]["top1_agreement"] > 0.98
    card = (root / "outputs/tiny/report/cards/cpu-auto/README.md").read_text(encoding="utf-8")
    assert "its adapter kept in fp32 beside the base" in card
