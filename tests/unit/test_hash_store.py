"""Hashes that commands keep for the next one: never of another file, and never where they prove."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from slmcompile.files import file_hash as hashing
from slmcompile.files.file_hash import file_hash, hashes_kept
from slmcompile.files.hash_store import LARGE
from slmcompile.provenance.folder import hash_of

FORGED = "0" * 64
STORE = ".slmcompile/hashes.json"


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written this moment count as settled, as change times cannot be set back."""
    monkeypatch.setattr(hashing, "_SETTLED_NS", -(10**12))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(LARGE))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def looked_at(root: Path, path: Path) -> str:
    """As the next process of a command would find it."""
    hashing._known.clear()
    with hashes_kept(root):
        return file_hash(path, "sha256")


def forge(root: Path) -> None:
    """Other digests for the same files: what is answered with one was not read."""
    store = json.loads((root / STORE).read_text(encoding="utf-8"))
    for entry in store["files"].values():
        entry[-1] = FORGED
    (root / STORE).write_text(json.dumps(store), encoding="utf-8")


def test_a_large_file_is_read_once_and_a_small_one_is_not_kept(
    tmp_path: Path, weights: Path
) -> None:
    small = tmp_path / "config.json"
    small.write_text("{}", encoding="utf-8")
    assert looked_at(tmp_path, small) == sha256(small)
    assert not (tmp_path / STORE).exists()
    assert looked_at(tmp_path, weights) == sha256(weights)
    forge(tmp_path)
    assert looked_at(tmp_path, weights) == FORGED
    assert looked_at(tmp_path, small) == sha256(small)


@pytest.mark.parametrize("way", ["in place", "by rename", "shorter"])
def test_other_bytes_are_read_whatever_their_times_say(
    tmp_path: Path, weights: Path, way: str
) -> None:
    before, found = weights.stat(), looked_at(tmp_path, weights)
    new = weights if way != "by rename" else tmp_path / "new"
    new.write_bytes(os.urandom(LARGE - (way == "shorter")))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(weights)
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    assert looked_at(tmp_path, weights) == sha256(weights) != found


def test_what_proves_something_reads_the_bytes(tmp_path: Path, weights: Path) -> None:
    looked_at(tmp_path, weights)
    forge(tmp_path)
    hashing._known.clear()
    assert hash_of(tmp_path, "folder", weights.name) == sha256(weights)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format_version": "2.0", "files": {}}',
        '{"format_version": "1.0", "files": []}',
        '{"format_version": "1.0", "files": {"sha256 x": [1, 2, 3, 4, 5]}}',
        '{"format_version": "1.0", "files": {"sha256 x": [1, 2, 3, 4, true, "' + FORGED + '"]}}',
        '{"format_version": "1.0", "files": {"sha256 x": [1, 2, 3, 4, 5, "no digest"]}}',
    ],
)
def test_a_damaged_store_costs_time_alone_and_is_written_anew(
    tmp_path: Path, weights: Path, text: str
) -> None:
    (tmp_path / ".slmcompile").mkdir()
    (tmp_path / STORE).write_text(text, encoding="utf-8")
    assert looked_at(tmp_path, weights) == sha256(weights)
    assert list(json.loads((tmp_path / STORE).read_text(encoding="utf-8"))["files"]) == [
        f"sha256 {weights}"
    ]


def test_a_link_in_the_place_of_the_scratch_folder_is_not_followed(
    tmp_path: Path, weights: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / ".slmcompile").symlink_to(outside)
    assert looked_at(tmp_path, weights) == sha256(weights)
    assert list(outside.iterdir()) == []


def test_what_another_command_has_kept_meanwhile_stays(tmp_path: Path, weights: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(os.urandom(LARGE))
    hashing._known.clear()
    with hashes_kept(tmp_path):
        file_hash(weights, "sha256")
        looked_at(tmp_path, other)
    kept = json.loads((tmp_path / STORE).read_text(encoding="utf-8"))["files"]
    assert set(kept) == {f"sha256 {weights}", f"sha256 {other}"}
