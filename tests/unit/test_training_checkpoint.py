"""A checkpoint is whole or it is not there."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.console.progress import Silent
from slmcompile.training.checkpoint import TENSOR_FILES, Checkpoint, CheckpointFolder


class Heard(Silent):
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def checkpoint(step: int) -> Checkpoint:
    tensors = {name: {"x": torch.full((3,), float(step))} for name in TENSOR_FILES}
    return Checkpoint(step, {"step": step, "rate": 0.1 + 0.2}, {**tensors, "best": {}})


def opened(folder: Path, heard: Silent | None = None, identity: str = "a") -> CheckpointFolder:
    return CheckpointFolder(folder, identity, 2, heard or Silent())


def test_where_no_more_can_be_written_it_is_said_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.save(checkpoint(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(MissingError, match="larger than may be written here"):
            folder.save(checkpoint(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    opened(tmp_path).save(checkpoint(7))
    found = opened(tmp_path).newest()
    assert found is not None
    assert found.step == 7
    assert found.state == checkpoint(7).state
    assert found.tensors["best"] == {}
    assert torch.equal(found.tensors["optimizer"]["x"], torch.full((3,), 7.0))


def test_the_newest_is_by_step_and_the_oldest_go(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for step in (90, 100, 110, 5):
        folder.save(checkpoint(step))
    # A group drops what is old when every learner has its newest.
    assert len(list(tmp_path.iterdir())) == 4
    folder.retain()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000100", "step-00000110"]
    earlier = folder.newest(lambda state: state["step"] < 110)
    assert earlier is not None
    assert earlier.step == 100
    found = folder.newest()
    assert found is not None
    assert found.step == 110


def test_a_torn_write_is_set_aside(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.save(checkpoint(1))
    folder.save(checkpoint(2))
    (tmp_path / "step-00000002").rename(tmp_path / ".step-00000002.part")
    heard = Heard()
    found = opened(tmp_path, heard).newest()
    assert found is not None
    assert found.step == 1
    assert heard.lines == [
        "checkpoint step-00000002 set aside as step-00000002.damaged: was not written to its end"
    ]


@pytest.mark.parametrize("name", ["state.json", *(f"{n}.safetensors" for n in TENSOR_FILES)])
def test_a_file_that_the_manifest_leaves_out_is_missed(tmp_path: Path, name: str) -> None:
    from slmcompile.files.artifact import write_manifest

    folder = opened(tmp_path)
    folder.save(checkpoint(1))
    (tmp_path / "step-00000001" / name).unlink()
    write_manifest(tmp_path / "step-00000001", "checkpoint", {"identity": "a", "step": 1})
    heard = Heard()
    assert opened(tmp_path, heard).newest() is None
    assert "set aside" in heard.lines[0]


def test_a_manifest_that_is_no_manifest_is_damage(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.save(checkpoint(1))
    (tmp_path / "step-00000001" / "manifest.json").write_text('{"format_version": "1.0"}')
    heard = Heard()
    assert opened(tmp_path, heard).newest() is None
    assert heard.lines[0].endswith("manifest.json: not a manifest")


def test_another_run_s_checkpoint_is_neither_used_nor_moved(tmp_path: Path) -> None:
    opened(tmp_path).save(checkpoint(1))
    with pytest.raises(CorruptError, match="belongs to run a, not to b"):
        opened(tmp_path, identity="b").newest()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
