"""Checkpoints that are sent away while code of the project runs beside: files, and only theirs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import cast

import pytest

from slmcompile.ci.checkpoints import Checkpoints
from slmcompile.ci.store import LARGEST, Store
from slmcompile.console.errors import CorruptError
from slmcompile.recipe.project import Project

WORK = "0123456789abcdef"


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    shown = "remote pr/7"

    def names(self, folder: str) -> tuple[str, ...]:
        below = (name.removeprefix(f"{folder}/").partition("/")[0] for name in self.files)
        return tuple(sorted({*below}))

    def read(self, name: str) -> bytes | None:
        data = self.files.get(name)
        if data is not None and len(data) > LARGEST:
            raise CorruptError(f"{name}: larger than any", "remove it")
        return data

    def get(self, name: str, path: Path) -> bool:
        if name in self.files:
            path.write_bytes(self.files[name])
        return name in self.files

    def put(self, path: Path, name: str) -> None:
        self.files[name] = path.read_bytes()

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def remove(self, name: str) -> None:
        del self.files[name]


def _checkpoint(project: Path) -> Path:
    folder = project / ".slmcompile/scratch" / WORK / "isolated" / WORK / "step-00000001"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "manifest.json").write_bytes(b"{}")
    return folder


def _sent(project: Path) -> tuple[list[str], bytes]:
    kept = Kept()
    Checkpoints(Project(project), cast(Store, kept)).send()
    listed = json.loads(kept.files.pop(f"checkpoints/{WORK}/files.json", b"{}"))
    return sorted(Path(name).name for name in listed), b"".join(kept.files.values())


def test_a_checkpoint_is_sent_whole(tmp_path: Path) -> None:
    _checkpoint(tmp_path)
    names, data = _sent(tmp_path)
    assert names == ["manifest.json", "weights.safetensors"]
    assert b"weights" in data


def test_no_link_of_the_code_has_a_credential_sent_and_no_fifo_waited_for(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "credentials").write_bytes(b"swordfish")
    (home / "manifest.json").write_bytes(b"swordfish")
    (folder / "a").symlink_to(home / "credentials")
    (folder / "b").symlink_to(home)
    (folder.parent / "step-00000002").symlink_to(home)
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to(home / "credentials")
    os.mkfifo(folder / "c")
    names, data = _sent(tmp_path)
    assert names == ["manifest.json"]
    assert b"swordfish" not in data


def test_what_an_attempt_has_sent_the_next_one_has(tmp_path: Path) -> None:
    kept = Kept()
    first, second = tmp_path / "first", tmp_path / "second"
    _checkpoint(first)
    Checkpoints(Project(first), cast(Store, kept)).send()
    said: list[str] = []
    Checkpoints(Project(second), cast(Store, kept)).bring(said.append)
    (weights,) = second.rglob("weights.safetensors")
    assert weights.read_bytes() == b"weights"
    assert not said


ONE = hashlib.sha256(b"1").hexdigest()


@pytest.mark.parametrize(
    "listed",
    [
        b"",
        b"[" * 100_000,
        b"{" + b" " * LARGEST + b"}",
        json.dumps({"a": ONE, "a/b": ONE}).encode(),
        json.dumps({"a/b": ONE, "a": ONE}).encode(),
        json.dumps({"../a": ONE}).encode(),
        json.dumps({"a": "0" * 64}).encode(),
        json.dumps({"a": 1}).encode(),
        json.dumps({"a\0b": ONE}).encode(),
        json.dumps({"a" * 300: ONE}).encode(),
        json.dumps({"a": ONE, "b": "1" * 64}).encode(),
    ],
)
def test_a_list_that_is_none_is_said_and_nothing_of_it_is_left(
    tmp_path: Path, listed: bytes
) -> None:
    """Case poisoned-checkpoint."""
    kept = Kept()
    kept.files = {
        f"checkpoints/{WORK}/files.json": listed,
        f"checkpoints/{WORK}/{ONE}": b"1",
        f"checkpoints/{WORK}/{'1' * 64}": b"other bytes",
    }
    said: list[str] = []
    Checkpoints(Project(tmp_path), cast(Store, kept)).bring(said.append)
    assert said == [f"remote pr/7: checkpoints of {WORK}: damaged; begun anew"]
    assert not [*tmp_path.rglob("*.json"), *(tmp_path / ".slmcompile/scratch").glob("*")]
