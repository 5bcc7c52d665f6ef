"""A plan says which targets fit what the model ships to; nothing of it moves a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile import api
from slmcompile.console.errors import SlmcompileError
from slmcompile.explain.plan_text import plan_text
from slmcompile.explain.planned import PlannedRun, to_json
from slmcompile.explain.recommended import Fit
from slmcompile.providers import PROVIDERS
from tests.projects import make_project

WIDE = ("model.source.hidden_size=1024", "model.source.num_hidden_layers=24")
"""85 million weights."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))


def planned(project: Path, *overrides: str) -> PlannedRun:
    return api.plan("tiny", [*WIDE, *overrides], project=project)


def fits(run: PlannedRun) -> dict[str, Fit]:
    return {each.target: each for each in run.recommended}


def test_what_fits_is_told_by_its_size(project: Path) -> None:
    run = planned(project, "deploy={device: cpu, memory_gb: 0.3}")
    found = fits(run)
    assert (found["cpu-fp32"].fits, found["cpu-int8"].fits) == ("no", "yes")
    assert found["cpu-fp32"].weights_gb == pytest.approx(0.342, abs=0.001)
    assert found["cpu-fp32"].built
    assert not found["cpu-int4"].built
    # Of those that fit the one for that kind of device, and 8 bits before 4.
    assert [name for name, fit in found.items() if fit.worth] == ["gguf-q8-0"]
    assert "  gguf-q8-0: 0.09 GB of weights" in plan_text(run)
    assert "worth building: target=[gguf-q8-0]" in plan_text(run)
    assert to_json(run)["recommended"][0]["target"] == "cpu-fp32"


def test_where_8_bits_do_not_fit_4_are_worth_building(project: Path) -> None:
    found = fits(planned(project, "deploy={device: nvidia, memory_gb: 0.15}"))
    assert found["cuda-int8"].fits == "perhaps"
    assert [name for name, fit in found.items() if fit.worth] == ["cuda-int4"]
    none = fits(planned(project, "deploy={device: nvidia, memory_gb: 0.01}"))
    assert not [name for name, fit in none.items() if fit.worth]


def test_a_target_that_does_not_run_there_is_named(project: Path) -> None:
    assert "not for browser: cpu-fp32" in plan_text(planned(project, "deploy.device=browser"))


def test_what_it_ships_to_moves_no_stage(project: Path) -> None:
    one, other = planned(project), planned(project, "deploy={device: cpu, memory_gb: 2}")
    assert one.plan.fingerprints() == other.plan.fingerprints()
    assert one.plan.effective == {k: v for k, v in other.plan.effective.items() if k != "deploy"}
    assert one.recommended == ()


def test_a_device_that_nobody_has_is_refused(project: Path) -> None:
    with pytest.raises(SlmcompileError, match=r"deploy.device: must be .*browser") as caught:
        planned(project, "deploy.device=fridge")
    assert caught.value.code == 78


def test_each_target_is_for_some_device() -> None:
    assert [each.name for each in PROVIDERS.values() if not each.devices] == []
