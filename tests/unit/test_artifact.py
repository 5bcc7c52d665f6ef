"""Artifacts: what their manifest says is checked, whoever wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmcompile.console.errors import CorruptError
from slmcompile.files.artifact import MANIFEST, verify, verify_used, write_manifest, write_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "made").write_text("x", encoding="utf-8")
    write_manifest(folder, "train", {})
    return folder


GOOD = {"format_version": "1.0", "kind": "train", "files": {}, "info": {}}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        "null",
        '{"format_version": "1.0"}',
        json.dumps({**GOOD, "format_version": 1}),
        json.dumps({**GOOD, "files": []}),
        json.dumps({**GOOD, "files": {"made": {}}}),
        json.dumps({**GOOD, "files": {"made": {"size": "1", "sha256": 1}}}),
        json.dumps({**GOOD, "info": None}),
        f'{{"a": [{"[]," * 8_000_000}1]}}',
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_manifest_is_corrupt(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(CorruptError, match=r"not a manifest|missing or unreadable"):
        verify(folder)


def test_a_manifest_that_never_ends_is_not_read(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).symlink_to("/dev/zero")
    with pytest.raises(CorruptError, match="missing or unreadable"):
        verify(folder)
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    with pytest.raises(CorruptError, match="missing or unreadable"):
        verify(folder)


def test_files_may_be_links_into_dvcs_cache(folder: Path, tmp_path: Path) -> None:
    for name in ("made", MANIFEST):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    assert list(verify(folder)["files"]) == ["made"]


def test_what_is_used_is_read_and_of_the_rest_the_size_is_compared(folder: Path) -> None:
    (folder / "large").write_text("y", encoding="utf-8")
    write_manifest(folder, "thing", {})
    (folder / "other").write_text("not in the manifest", encoding="utf-8")
    (folder / "large").write_text("z", encoding="utf-8")
    verify_used(folder, ["made"])
    for name in ("other", "nowhere"):
        with pytest.raises(CorruptError, match=f"{name}: is missing"):
            verify_used(folder, [name])
    for name, used in (("large", ["large"]), ("made", ["made"]), ("large", ["made"])):
        whole = (folder / name).read_text(encoding="utf-8")
        content = "z" * len(whole) if name in used else whole + "z"
        (folder / name).write_text(content, encoding="utf-8")
        with pytest.raises(CorruptError, match=f"{name}: its bytes are not those that were"):
            verify_used(folder, used)
        (folder / name).write_text(whole, encoding="utf-8")
    (folder / "large").unlink()
    with pytest.raises(CorruptError, match="large: is missing"):
        verify_used(folder, ["made"])


def test_text_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept", encoding="utf-8")
    for name in ("dvc.yaml", f".dvc.yaml.{os.getpid()}.part"):
        (tmp_path / name).symlink_to(victim)
    write_text(tmp_path / "dvc.yaml", "new")
    assert victim.read_text(encoding="utf-8") == "kept"
    assert (tmp_path / "dvc.yaml").read_text(encoding="utf-8") == "new"


def test_what_a_killed_process_left_of_a_file_goes_with_its_next_write(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    left = tmp_path / f".torch.json.{ended}.part"
    others = [tmp_path / f".torch.json.{os.getppid()}.part", tmp_path / f".base.json.{ended}.part",
              tmp_path / ".torch.json.x.part"]  # fmt: skip
    for path in (left, *others):
        path.write_text("{")
    write_text(tmp_path / "torch.json", "{}\n")
    assert not left.exists(), "nobody is going to finish it"
    assert all(path.exists() for path in others), "written by somebody alive, or of another file"
