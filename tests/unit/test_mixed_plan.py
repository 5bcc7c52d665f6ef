"""Weights of 4 and 8 bits: which stages there are, what moves them, how large a plan says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slmcompile.execution.sync import compile_recipe
from slmcompile.plans.definition import Plan
from slmcompile.providers.cpu import CpuTarget, built_with, export_bytes, fault
from slmcompile.recipe.project import Project
from slmcompile.shapes.architecture import Architecture
from tests.projects import make_project

MIXED = "target=[cpu-mixed,cpu-int8,cpu-int4]"
SMALL = "target.cpu-mixed.bits_per_weight=5.5"
OTHER = "+target.other={execution_provider: cpu, precision: mixed, bits_per_weight: 7.0}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path))


def plan(project: Project, *overrides: str) -> Plan:
    return compile_recipe(project, "quickstart", overrides)


def moved(project: Project, before: list[str], after: list[str]) -> set[str]:
    plans = [plan(project, *overrides) for overrides in (before, after)]
    found, other = ({**each.fingerprints()} for each in plans)
    return {name.rpartition("/")[2] for name in found if found[name] != other.get(name)}


def test_what_is_measured_is_measured_of_what_was_trained_and_on_its_rows(project: Project) -> None:
    compiled = plan(project, MIXED)
    probe, train = compiled.stage("probe", "cpu-mixed"), compiled.stage("train")
    assert set(probe.inputs) == {"base", "data", "train"}
    assert probe.inputs["train"] == train.out
    assert compiled.stage("export", "cpu-mixed").inputs["probe"] == probe.out
    assert "probe" not in compiled.stage("export", "cpu-int4").inputs
    assert [stage.kind for stage in compiled.stages()].count("probe") == 1


def test_another_size_measures_nothing_again(project: Project) -> None:
    assert moved(project, [MIXED], [MIXED, SMALL]) == {
        "check", "export-cpu-mixed", "answer-cpu-mixed", "score", "report", "gate",
    }  # fmt: skip
    coarser = moved(project, [MIXED], [MIXED, "target.cpu-mixed.int4_block_size=16"])
    assert {"probe-cpu-mixed", "export-cpu-mixed"} <= coarser
    assert not coarser & {"train", "export-cpu-int4"}


def test_targets_of_two_sizes_share_what_was_measured(project: Project) -> None:
    compiled = plan(project, MIXED, OTHER)
    (probe,) = (stage for stage in compiled.stages() if stage.kind == "probe")
    for name in ("cpu-mixed", "other"):
        assert compiled.stage("export", name).inputs["probe"] == probe.out


def test_candidates_share_what_was_measured_too(project: Project) -> None:
    candidates = (
        "+target.cpu-auto.candidates={int8: {precision: int8}, small: {precision: mixed,"
        " bits_per_weight: 5.5}, large: {precision: mixed}}"
    )
    compiled = plan(project, "target=[cpu-mixed,cpu-int8,cpu-auto]", candidates)
    (probe,) = (stage for stage in compiled.stages() if stage.kind == "probe")
    for label in ("small", "large"):
        assert compiled.stage("candidate", f"cpu-auto-{label}").inputs["probe"] == probe.out
    assert "probe" not in compiled.stage("candidate", "cpu-auto-int8").inputs
    assert compiled.stage("export", "cpu-mixed").inputs["probe"] == probe.out


def test_recipes_without_it_are_as_they_were(project: Project) -> None:
    config = plan(project, MIXED).stage("export", "cpu-int4").config["target"]
    assert "bits_per_weight" not in config


def architecture(*, tied: bool) -> Architecture:
    linears = {
        f"model.layers.{layer}.{name}": shape
        for layer in range(4)
        for name, shape in {
            "self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64),
            "self_attn.v_proj": (32, 64), "self_attn.o_proj": (64, 64),
            "mlp.gate_proj": (128, 64), "mlp.up_proj": (128, 64), "mlp.down_proj": (64, 128),
        }.items()
    }  # fmt: skip
    others = {"model.embed_tokens": (320, 64), **({} if tied else {"lm_head": (320, 64)})}
    shapes: dict[str, tuple[int, ...]] = {
        **{f"{name}.weight": shape for name, shape in {**linears, **others}.items()},
        "model.norm.weight": (64,),
    }
    return Architecture({"model_type": "llama"}, shapes, linears, others, {})


def test_a_plan_says_no_less_than_there_will_be(project: Project) -> None:
    for tied in (True, False):
        model = architecture(tied=tied)
        rounded = model.linear_parameters + 320 * 64
        rest = 4 * (model.parameters - rounded)
        of: Any = lambda bits: CpuTarget(precision="mixed", bits_per_weight=bits)  # noqa: E731
        assert export_bytes(of(6.0), model) == rounded * 6 / 8 + rest
        # No more than with all of them wide, however much is allowed.
        assert export_bytes(of(12.0), model) < rounded * 9 / 8 + rest
        sizes = [built_with(of(bits), model) for bits in (5.5, 6.0, 8.0)]
        assert sizes == sorted(sizes)
        assert sizes[0] > export_bytes(of(5.5), model)
        assert fault(of(5.13), model) is None
        found = fault(of(5.12), model)
        assert found is not None
        assert found[0] == "bits_per_weight"
