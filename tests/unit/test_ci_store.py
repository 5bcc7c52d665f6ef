"""Stores of pull requests: what they hold proves nothing by its name, and stays as it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from slmcompile.ci import result
from slmcompile.ci.reuse import name_of, read_record
from slmcompile.ci.store import LARGEST, MAIN, PULL_REQUESTS, Store
from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache
from tests.projects import command


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project under git and DVC with the two remotes."""
    root = tmp_path_factory.mktemp("store") / "project"
    (root / "recipes").mkdir(parents=True)
    for words in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        ("dvc", "remote", "add", "-q", MAIN, str(root.parent / "there/main")),
        ("dvc", "remote", "add", "-q", PULL_REQUESTS, str(root.parent / "there/pr")),
    ):
        command(root, *words)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    """Another machine's clone of it, with a store of its own."""
    command(tmp_path, "cp", "-r", str(template), str(tmp_path / "project"))
    config = tmp_path / "project/.dvc/config"
    config.write_text(config.read_text().replace(str(template.parent), str(tmp_path)))
    return Project(tmp_path / "project")


def cached(project: Project, **files: str) -> str:
    """An object of DVC's cache: a folder with some files."""
    folder = project.root / "x"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    command(project.root, "dvc", "add", "-q", "x")
    (found,) = re.findall(r"md5: (\S+)", (project.root / "x.dvc").read_text())
    return str(found)


def emptied(project: Project) -> None:
    command(project.root, "rm", "-rf", ".dvc/cache")


def blobs(store: Path) -> list[Path]:
    return sorted(path for path in store.glob("files/md5/*/*") if not path.name.endswith(".dir"))


def test_a_folder_goes_to_a_pull_request_and_comes_back(project: Project, tmp_path: Path) -> None:
    name = cached(project, a="1", b="2")
    own = Store(project, PULL_REQUESTS, "7")
    own.push([name])
    assert len(blobs(tmp_path / "there/pr/7")) == 2
    emptied(project)
    assert own.pull([name]) == ()
    cache = Cache(project)
    assert cache.has(name)
    assert set(cache.folder(name) or {}) == {"a", "b"}


def test_nothing_is_read_from_another_pull_request(project: Project) -> None:
    """Case foreign-prefix."""
    name = cached(project, a="1")
    other = Store(project, PULL_REQUESTS, "8")
    other.push([name])
    other.write("work/x.json", b"{}")
    emptied(project)
    own = Store(project, PULL_REQUESTS, "7")
    assert own.pull([name]) == (name,)
    assert own.read("work/x.json") is None
    assert own.names("work") == ()


def test_damaged_bytes_are_not_taken_and_stay_as_they_are(project: Project, tmp_path: Path) -> None:
    name = cached(project, a="1", b="2")
    main = Store(project, MAIN)
    main.push([name])
    emptied(project)
    (blob, _) = blobs(tmp_path / "there/main")
    blob.chmod(0o644)
    blob.write_text("other")
    assert main.pull([name]) == (name,)
    assert blob.read_text() == "other"
    assert not Cache(project).has(name)


def test_an_object_that_is_there_is_left_as_it_is(project: Project, tmp_path: Path) -> None:
    """Case same-md5, as far as pushing goes: a name that is taken is not written again."""
    name = cached(project, a="1")
    main = Store(project, MAIN)
    main.push([name])
    (blob,) = blobs(tmp_path / "there/main")
    before = blob.stat().st_mtime_ns, blob.stat().st_ino
    main.push([name])
    assert (blob.stat().st_mtime_ns, blob.stat().st_ino) == before


def test_other_bytes_under_a_name_are_told(project: Project, tmp_path: Path) -> None:
    """Case same-md5: what is there by its name is compared with what would have gone there."""
    name = cached(project, a="1", b="2")
    main = Store(project, MAIN)
    assert main.others([name]) == ()
    main.push([name])
    assert main.others([name]) == ()
    (blob, _) = blobs(tmp_path / "there/main")
    blob.chmod(0o644)
    blob.write_text("other")
    assert main.others([name]) == (blob.parent.name + blob.name,)


def test_a_folder_that_cannot_be_written_is_one_line(project: Project, tmp_path: Path) -> None:
    """Nothing is half there, and what is done again is done."""
    own = Store(project, PULL_REQUESTS, "7")
    work = tmp_path / "there/pr/7/slmcompile/work"
    work.parent.mkdir(parents=True)
    work.symlink_to(tmp_path / "nowhere/at/all")
    with pytest.raises(MissingError, match="remote pr/7: "):
        own.write("work/x.json", b"1")
    assert own.names("work") == ()
    work.unlink()
    own.write("work/x.json", b"1")
    assert own.read("work/x.json") == b"1"


def test_run_cache_entries_are_neither_read_nor_written(project: Project, tmp_path: Path) -> None:
    """Case poisoned-run-cache."""
    name = cached(project, a="1")
    runs = project.root / ".dvc/cache/runs/ab/abc/def"
    runs.parent.mkdir(parents=True)
    runs.write_text("cmd: x\n")
    main = Store(project, MAIN)
    main.push([name])
    assert not (tmp_path / "there/main/runs").exists()
    emptied(project)
    planted = tmp_path / "there/main/runs/ab/abc/def"
    planted.parent.mkdir(parents=True)
    planted.write_text("cmd: x\n")
    main.pull([name])
    assert not (project.root / ".dvc/cache/runs").exists()


def test_a_file_of_ours_is_bounded(project: Project, tmp_path: Path) -> None:
    own = Store(project, PULL_REQUESTS, "7")
    own.write("work/x.json", b"1")
    path = tmp_path / "there/pr/7/slmcompile/work/x.json"
    with path.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    with pytest.raises(CorruptError, match="larger than"):
        own.read("work/x.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        json.dumps({"fingerprint": "f" * 64, "manifest": "a", "object": "../../x.dir"}),
        json.dumps({"fingerprint": "f" * 64, "manifest": "a", "object": "0" * 32}),
        json.dumps({"fingerprint": "e" * 64, "manifest": "a", "object": f"{'0' * 32}.dir"}),
        json.dumps({"fingerprint": "f" * 64, "manifest": 1, "object": f"{'0' * 32}.dir"}),
        json.dumps(
            {
                "fingerprint": "f" * 64,
                "manifest": "a",
                "object": f"{'0' * 32}.dir",
                "metrics": "\ud800",
            }
        ),
        " " * (LARGEST + 1),
    ],
)
def test_a_record_that_is_none_is_said_and_not_used(project: Project, text: str) -> None:
    own = Store(project, PULL_REQUESTS, "7")
    own.write(name_of("f" * 64), text.encode())
    said: list[str] = []
    assert read_record(own, "f" * 64, said.append) is None
    assert len(said) == 1


def test_what_is_wrong_with_a_remote_is_one_line(project: Project, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no remote nowhere"):
        Store(project, "nowhere").read("x")
    (tmp_path / "there").mkdir(exist_ok=True)
    (tmp_path / "there/pr").write_text("a file")
    with pytest.raises(MissingError):
        Store(project, PULL_REQUESTS, "7").write("x", b"1")


def test_what_a_later_version_wrote_is_not_read(project: Project) -> None:
    """Of another major version of its form, whose keys may say something else."""
    store, said = Store(project, PULL_REQUESTS, "7"), list[str]()
    work = {"object": f"{'0' * 32}.dir", "fingerprint": "a" * 64, "manifest": "b" * 64}
    for version, readable in (("1.9", True), ("2.0", False)):
        data = json.dumps({**work, "format_version": version}).encode()
        store.write(name_of("a" * 64), data)
        assert bool(read_record(store, "a" * 64, said.append)) == readable
    ended = result.Record("c" * 64, "1" * 40, "2" * 40, (), format_version="1.9")
    assert result.read(store, ended.digest, result.write(store, ended)) == ended
    sha256 = result.write(store, replace(ended, format_version="2.0"))
    with pytest.raises(CorruptError, match="no record"):
        result.read(store, ended.digest, sha256)
