"""Checkpoints that are sent away while code of the project runs beside: files, and only theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

from slmcompile.ci.checkpoints import Checkpoints
from slmcompile.ci.store import Store
from slmcompile.recipe.project import Project

WORK = "0123456789abcdef"


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

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
