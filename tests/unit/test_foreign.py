"""A folder that foreign code has written holds plain files, or is not used."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from slmcompile.console.errors import CorruptError, Exit
from slmcompile.files.foreign import opened_below, remove, require_plain


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "a"))


def _linked(folder: Path) -> None:
    (folder / "a").write_text("a")
    os.link(folder / "a", folder / "b")


def _owned(folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "a").chmod(0o4755)


def _deep(folder: Path) -> None:
    for _ in range(2000):
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        folder = Path("a")


def _long(folder: Path) -> None:
    (folder / "a").touch()
    os.truncate(folder / "a", 1001)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda folder: (folder / "a").symlink_to("/etc/passwd"), "a: a symbolic link"),
        (lambda folder: (folder / "a").symlink_to(folder), "a: a symbolic link"),
        (_linked, ": a hard link"),
        (lambda folder: os.mkfifo(folder / "a"), "a: a FIFO"),
        (_socket, "a: a socket"),
        (_owned, "a: a file that runs with its owner's rights"),
        (_deep, "more than 16 folders deep"),
        (_long, "more than 1000 bytes"),
        (lambda folder: [(folder / str(one)).touch() for one in range(21)], "more than 20 files"),
        (lambda folder: (folder / "a\n::b").touch(), "a name that cannot be read"),
        (lambda folder: (folder / os.fsdecode(b"\xff")).mkdir(), "a name that cannot be read"),
    ],
)
def test_what_is_no_plain_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], says: str
) -> None:
    monkeypatch.chdir(tmp_path)  # and back
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorruptError) as caught:
        require_plain(tmp_path / "out", 20, 1000)
    assert caught.value.code == Exit.CORRUPT
    assert says in caught.value.what
    assert "\n" not in caught.value.what
    remove(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_none(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "a", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("nor does root here")
    with pytest.raises(CorruptError, match="a: a device"):
        require_plain(tmp_path, 10, 1000)


def test_plain_files_in_folders_are_fine(tmp_path: Path) -> None:
    (tmp_path / "adapter/of").mkdir(parents=True)
    (tmp_path / "adapter/of/a.json").write_text("{}" * 100)
    (tmp_path / "adapter/größe.txt").write_text("a")
    require_plain(tmp_path, 4, 201)


def test_a_folder_without_rights_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out/in").mkdir(parents=True)
    (tmp_path / "out/in/a").touch()
    (tmp_path / "out/in").chmod(0)
    remove(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    remove(tmp_path / "out")
    assert (tmp_path / "there").is_dir(), "a link is nobody's folder"


def test_a_file_is_read_that_was_opened_whatever_takes_its_place(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("swordfish")
    folder = tmp_path / "scratch"
    (folder / "step").mkdir(parents=True)
    (folder / "step/a").write_text("mine")
    with opened_below(folder, "step/a") as path:
        (folder / "step/a").unlink()
        (folder / "step/a").symlink_to(secret)
        assert path.read_text() == "mine"
    for place in ("step/a", "step/none", "step"):
        with pytest.raises(OSError, match=r".*"), opened_below(folder, place):
            pass
    (folder / "other").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    (folder / "a").touch()
    os.link(folder / "a", folder / "link")
    for place in ("other/secret", "fifo", "link", "../secret"):
        with pytest.raises(OSError, match=r".*"), opened_below(folder, place):
            pass
