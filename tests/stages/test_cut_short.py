"""Killed or out of disk, a stage that builds ONNX leaves its folder whole or absent."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from tests.cut_short import Cut, full, killed
from tests.projects import make_project
from tests.run_stages import run_stages

pytestmark = pytest.mark.long

DUO = """
defaults:
  - model: tiny-llama
  - train: tiny
  - adapter@adapters.one: commands
  - adapter@adapters.two: commands
  - target: [cpu-int4]
  - track: none
  - _self_
train: {over: cpu-int4, max_steps: 2}
adapters: {two: {data: {seed: 3}}}
"""
GROUP = """
defaults: [{/data: tiny-commands}, {/eval: structured}]
"""
NODES = """
defaults:
  - model: tiny-llama
  - data: tiny-commands
  - train: bottleneck
  - eval: structured
  - target: [cpu-int8]
  - track: none
  - _self_
train: {precision: fp32, max_steps: 2}
"""
UNTIL_EXPORT = ("base", "quantize", "data", "train", "export")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all that the stages to be cut short read."""
    root = make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))
    (root / "conf/adapter/commands.yaml").write_text(GROUP, encoding="utf-8")
    for name, recipe in (("duo", DUO), ("nodes", NODES)):
        (root / f"recipes/{name}.yaml").write_text(recipe, encoding="utf-8")
        run_stages(root, name, *UNTIL_EXPORT)
    shutil.rmtree(root / ".slmcompile")
    return root


STAGES = {
    "quantize": "pipelines/quantize-cpu-int4-*/plan/quantize-cpu-int4.json",
    "several adapters beside a base": "pipelines/duo/plan/export-cpu-int4.json",
    "nodes put into a graph": "pipelines/nodes/plan/export-cpu-int8.json",
}


@pytest.fixture(params=list(STAGES.values()), ids=list(STAGES))
def stage(project: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A project of its own, and the spec of the stage to be cut short."""
    root = tmp_path / "project"
    shutil.copytree(project, root)
    (spec,) = root.glob(request.param)
    return root, spec.relative_to(root).as_posix()


def test_a_killed_stage_leaves_nothing_half_and_the_next_run_finishes(
    stage: tuple[Path, str],
) -> None:
    cuts = killed(*stage)
    assert len(cuts) == 5
    for cut in cuts:
        assert cut.code == -signal.SIGKILL, cut
        assert_done_by_the_next_run(cut)
    assert {cut.target for cut in cuts} == {"absent", "whole"}, "killed on both sides of the rename"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_disk_that_fills_up_is_said_and_the_next_run_finishes(
    stage: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "mounted").mkdir()
    *failed, passed = full(*stage, tmp_path / "mounted")
    assert passed.code == 0
    assert len(failed) >= 2
    for cut in failed:
        assert cut.code == Exit.MISSING, cut
        # onnxruntime, which writes the files of adapters, does not say why it cannot.
        assert "no space left on the device" in cut.what or "cannot write it" in cut.what
        assert cut.target == "absent"
        assert_done_by_the_next_run(cut)


def assert_done_by_the_next_run(cut: Cut) -> None:
    assert cut.target in {"absent", "whole"}, cut
    assert cut.again == "0", cut
    assert cut.same, cut
    assert not cut.left, cut
