"""A version comes to a machine that never trained: whole and proved, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slmcompile.files.artifact import verify
from slmcompile.recipe.project import Project
from slmcompile.versions.publish import promote, register
from tests.projects import command, commit, slmcompile
from tests.released import FOLDERS, RECIPE, Released, add_result, head, make_origin, tag


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Two versions of which the second is in production, and their objects in a DVC remote."""
    released = make_origin(tmp_path_factory.mktemp("template").resolve() / "all")
    ann = released.clone("ann")
    for why in ("first", "second"):
        add_result(released, ann, why)
        register(ann, RECIPE, head(ann))
        promote(ann, RECIPE, None, "production")
    return released


@pytest.fixture
def released(template: Released, tmp_path: Path) -> Released:
    place = tmp_path.resolve() / "all"
    shutil.copytree(template.place, place, symlinks=True)
    command(place / "ann", "git", "remote", "set-url", "origin", str(place / "origin.git"))
    return Released(place, template.objects)


@pytest.fixture
def ann(released: Released) -> Project:
    return Project(released.place / "ann")


@pytest.fixture
def bob(released: Released) -> Project:
    """A clone that has never run anything."""
    return released.clone("bob")


def fetched(project: Project, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return slmcompile(project.root, "fetch", *words, check=check)


def refused(project: Project, code: int, what: str, *words: str) -> str:
    """A fetch that ends with an exit code and leaves nothing; returns what it said."""
    before = {path.name for path in (project.root / "fetched").glob("*")} | {".gitignore"}
    done = fetched(project, *words, check=False)
    assert done.returncode == code, done.stderr
    assert what in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    left = {path.name for path in (project.root / "fetched").glob("*")} | {".gitignore"}
    assert left == before, "what was there stays, and nothing more"
    return done.stderr


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def weights(folder: Path, name: str = "train") -> str:
    return (folder / name / "weights.bin").read_text().splitlines()[0]


def test_what_is_in_production_comes_to_a_fresh_clone(bob: Project) -> None:
    done = fetched(bob, "tiny@production")
    folder = bob.root / "fetched/tiny-v1.1.0"
    assert f"tiny@v1.1.0 is in {folder.relative_to(bob.root)}\n" in done.stdout
    for name in FOLDERS:
        verify(folder / name)
        assert weights(folder, name) == f"{name} of second"
    assert not (bob.root / ".dvc/cache").exists()
    assert not list((bob.root / ".slmcompile/fetched").iterdir())
    assert command(bob.root, "git", "status", "--porcelain").stdout.strip() == ""
    assert all(path.stat().st_nlink == 1 for path in folder.rglob("*") if path.is_file())


def test_a_second_fetch_does_nothing(released: Released, bob: Project) -> None:
    fetched(bob, "tiny@production")
    before = snapshot(bob.root / "fetched")
    released.store.rename(released.place / "gone")
    again = fetched(bob, "tiny@production")
    assert "already, every byte of it" in again.stdout
    assert snapshot(bob.root / "fetched") == before


def test_what_was_damaged_here_is_fetched_again(bob: Project) -> None:
    fetched(bob, "tiny@v1.1.0")
    folder = bob.root / "fetched/tiny-v1.1.0"
    (folder / "train/weights.bin").write_text("damaged\n")
    (folder / "train/more").write_text("more\n")
    before = snapshot(folder / "export-cpu-fp32")
    document = json.loads(fetched(bob, "tiny@v1.1.0", "--json").stdout)
    assert document["fetched"] == ["train"]
    verify(folder / "train")
    assert snapshot(folder / "export-cpu-fp32") == before


def test_one_target_comes_alone_and_the_rest_later(bob: Project, tmp_path: Path) -> None:
    to = tmp_path / "there"
    words = ("tiny@v1.0.0", "--to", str(to))
    fetched(bob, *words, "--target", "cpu-fp32")
    assert {path.name for path in to.iterdir()} == {"export-cpu-fp32", "statement.json"}
    assert weights(to, "export-cpu-fp32") == "export-cpu-fp32 of first"
    assert json.loads(fetched(bob, *words, "--json").stdout)["fetched"] == ["train"]
    assert {path.name for path in to.iterdir()} == {*FOLDERS, "statement.json"}
    done = fetched(bob, *words, "--target", "cpu-fp23", check=False)
    assert (done.returncode, "did you mean 'cpu-fp32'?" in done.stderr) == (64, True)


def test_a_folder_of_something_else_is_left_alone(bob: Project, tmp_path: Path) -> None:
    fetched(bob, "tiny@v1.0.0", "--to", str(tmp_path / "there"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    for name in ("there", "mine"):
        before = snapshot(tmp_path / name)
        done = fetched(bob, "tiny@v1.1.0", "--to", str(tmp_path / name), check=False)
        assert (done.returncode, "holds something else" in done.stderr) == (64, True)
        assert snapshot(tmp_path / name) == before


def replace_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def add_file(path: Path) -> None:
    listed = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps([*listed, {**listed[0], "relpath": "more"}]))


def file_of(released: Released, name: str) -> Path:
    """The DVC remote's object of a file of the second version."""
    entries = json.loads(released.stored(released.objects["second: train"]).read_text())
    return released.stored(next(each["md5"] for each in entries if each["relpath"] == name))


@pytest.mark.parametrize("file", ["weights.bin", "manifest.json", "deep/config.json"])
def test_a_damaged_object_is_told_and_not_kept(released: Released, bob: Project, file: str) -> None:
    stored = file_of(released, file)
    whole = stored.read_bytes()
    replace_bytes(stored)
    refused(bob, 74, "tiny: train of the remote", "tiny@production")
    assert len(stored.read_bytes()) == len(whole), "what is read is not written to"
    stored.write_bytes(whole)
    fetched(bob, "tiny@production")
    verify(bob.root / "fetched/tiny-v1.1.0/train")


@pytest.mark.parametrize("damage", [replace_bytes, add_file, lambda path: path.write_bytes(b"[]")])
def test_a_damaged_list_is_told(
    released: Released, bob: Project, damage: Callable[[Path], None]
) -> None:
    stored = released.stored(released.objects["second: train"])
    stored.chmod(0o644)
    damage(stored)
    refused(bob, 74, f"object {released.objects['second: train']}", "tiny@production")


@pytest.mark.parametrize("file", ["weights.bin", ""])
def test_a_missing_object_is_told(released: Released, bob: Project, file: str) -> None:
    folder = released.objects["second: train"]
    stored = file_of(released, file) if file else released.stored(folder)
    stored.unlink()
    said = refused(bob, 69, "DVC remote 'main' lacks object", "tiny@production")
    assert (folder if not file else stored.parent.name + stored.name) in said


def test_other_remotes_and_their_absence(released: Released, bob: Project) -> None:
    refused(bob, 69, "there is no DVC remote 'other'", "tiny@v1.0.0", "--from", "other")
    released.store.rename(released.place / "moved")
    refused(bob, 69, "lacks object", "tiny@v1.0.0")
    # Of the user's own settings, which are no commit's.
    local = bob.root / ".dvc/config.local"
    local.write_text(f"['remote \"other\"']\n    url = {released.place / 'moved'}\n")
    fetched(bob, "tiny@v1.0.0", "--from", "other")
    # And the user's own word on the remote of the commit.
    local.write_text("['remote \"main\"']\n    url = ../../moved\n")
    fetched(bob, "tiny@v1.1.0")


def test_a_remote_that_is_no_folder_serves_as_well(released: Released, bob: Project) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    serve = partial(Quiet, directory=str(released.store))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        (bob.root / ".dvc/config.local").write_text(f"['remote \"web\"']\n    url = {url}\n")
        fetched(bob, "tiny@v1.1.0", "--from", "web")
        file_of(released, "weights.bin").unlink()
        refused(
            bob, 69, "DVC remote 'web' lacks object", "tiny@v1.1.0", "--from", "web", "--to", "x"
        )
        server.shutdown()
    refused(bob, 69, "DVC remote 'web'", "tiny@v1.0.0", "--from", "web", "--to", "x")
    assert not (bob.root / "x").exists()
    verify(bob.root / "fetched/tiny-v1.1.0/train")


def test_the_remote_is_that_of_the_versions_commit(
    released: Released, ann: Project, bob: Project
) -> None:
    path = ann.root / ".dvc/config"
    path.write_text(path.read_text().replace("../../store", "../../elsewhere"))
    commit(ann.root, "the store moves")
    command(ann.root, "git", "push", "--quiet", "origin", "HEAD:main")
    command(bob.root, "git", "pull", "--quiet")
    fetched(bob, "tiny@v1.0.0")
    assert not (released.place / "elsewhere").exists()


def test_a_statement_of_another_recipe_is_no_version_of_this(
    released: Released, ann: Project, bob: Project
) -> None:
    add_result(released, ann, "other", recipe="other")
    register(ann, RECIPE, head(ann))
    refused(bob, 74, "is of recipe 'other'", "tiny@v1.2.0")


def test_what_was_taken_back_or_moved_is_not_fetched(ann: Project, bob: Project) -> None:
    tag(ann, "tiny@v1.1.0!#9", "bad answers")
    refused(bob, 77, "tiny@v1.1.0 was taken back: tiny@v1.1.0!#9 by Ann", "tiny@production")
    refused(bob, 69, "there is no such version", "tiny@v9.0.0")
    refused(bob, 69, "no version is staging", "tiny@staging")
    refused(bob, 64, "which version?", "tiny")
    command(ann.root, "git", "tag", "-d", "tiny@v1.0.0")
    command(ann.root, "git", "tag", "-a", "tiny@v1.0.0", "-m", "moved")
    command(ann.root, "git", "push", "--quiet", "--force", "origin", "refs/tags/tiny@v1.0.0")
    refused(bob, 74, "tiny@v1.0.0: was moved", "tiny@v1.0.0")


def test_a_shallow_clone_that_knows_no_tag_can_fetch(released: Released) -> None:
    url = (released.place / "origin.git").as_uri()
    command(released.place, "git", "clone", "--quiet", "--depth=1", "--no-tags", url, "shallow")
    shallow = Project(released.place / "shallow")
    fetched(shallow, "tiny@v1.0.0")
    assert weights(shallow.root / "fetched/tiny-v1.0.0") == "train of first"


def test_without_the_origin_tags_that_are_here_will_do(released: Released, bob: Project) -> None:
    (released.place / "origin.git").rename(released.place / "gone.git")
    refused(bob, 69, "origin: ", "tiny@v1.0.0")
    fetched(bob, "tiny@v1.0.0", "--offline")
    assert "v1.1.0" in slmcompile(bob.root, "versions", "--offline").stdout


def test_what_dvc_pushes_is_what_is_fetched(released: Released, ann: Project, bob: Project) -> None:
    add_result(released, ann, "third", stored=False)
    register(ann, RECIPE, head(ann), bump="patch")
    stages = "".join(
        f"  {name}:\n    cmd: 'false'\n    wdir: ../..\n    outs: [outputs/tiny/{name}]\n"
        for name in FOLDERS
    )
    (ann.root / "pipelines/tiny/dvc.yaml").write_text(f"stages:\n{stages}")
    command(ann.root, "dvc", "commit", "--quiet", "--force", "pipelines/tiny/dvc.yaml")
    command(ann.root, "dvc", "push", "--quiet", "--remote", "main", "pipelines/tiny/dvc.yaml")
    fetched(bob, "tiny@v1.1.1")
    assert weights(bob.root / "fetched/tiny-v1.1.1") == "train of third"


def test_versions_promote_and_rollback_as_people_type_them(ann: Project, bob: Project) -> None:
    shown = slmcompile(bob.root, "versions", "tiny").stdout
    lines = shown.splitlines()
    assert lines[0].split() == ["tiny", "stages", "when", "who", "targets", "why"]
    assert lines[2].split()[:2] == ["v1.1.0", "production"]
    assert lines[2].endswith("cpu-fp32  second")
    assert "v1.1.0 cpu-fp32" in shown
    assert "0.875" in shown
    said = slmcompile(bob.root, "rollback", "tiny").stdout
    assert said == ("tiny@v1.0.0 is production now (before: v1.1.0), by tag tiny#production#3\n")
    said = slmcompile(ann.root, "promote", "tiny", "v1.1.0", "--to", "staging").stdout
    assert said == "tiny@v1.1.0 is staging now, by tag tiny#staging#4\n"
    said = slmcompile(ann.root, "promote", "tiny", "--to", "staging", "v1.1.0").stdout
    assert said == "tiny@v1.1.0 is staging already\n"
    tag(ann, "tiny@v7.0.0", "by hand")
    assert "0.875" not in slmcompile(bob.root, "versions").stdout
    document = json.loads(slmcompile(bob.root, "versions", "--json").stdout)
    (recipe,) = document["recipes"]
    newest, oldest = recipe["versions"]
    assert (newest["stages"], oldest["stages"]) == (["staging"], ["production"])
    assert newest["metrics"]["torch"] == {"accuracy": 0.9}
    assert newest["targets"] == ["cpu-fp32"]
    assert newest["signed_by"] is None
    assert recipe["not_versions"][0]["tag"] == "tiny@v7.0.0"
    assert [each["version"] for each in recipe["assignments"]] == [
        "v1.0.0",
        "v1.1.0",
        "v1.0.0",
        "v1.1.0",
    ]
    done = slmcompile(bob.root, "rollback", "tiny", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (64, 2)
