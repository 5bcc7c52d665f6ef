"""``init`` sets up what is missing, says what it did, and changes nothing that is somebody's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from slmcompile.cli.init import init
from slmcompile.cli.main import main
from slmcompile.console.errors import MissingError, RefusedError
from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.project import Project
from tests.projects import make_project

OURS = b"/outputs/\n/.slmcompile/\n"


def ignored(root: Path, *paths: str) -> list[str]:
    words = ["git", "check-ignore", "--no-index", *paths]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder after ``init``."""
    root = tmp_path_factory.mktemp("init")
    init(folder=root)
    return root


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", OURS),
        (b"node_modules", b"node_modules\n" + OURS),
        (b"/runs/outputs/\n", b"/runs/outputs/\n" + OURS),
        (b"# not /outputs/ but\n", b"# not /outputs/ but\n" + OURS),
        (b"/outputs/\n*.pyc", b"/outputs/\n*.pyc\n/.slmcompile/\n"),
        (b"a\r\n/outputs/\r\n", b"a\r\n/outputs/\r\n/.slmcompile/\r\n"),
        ("für".encode("latin-1"), "für\n".encode("latin-1") + OURS),
        (OURS.rstrip(), OURS.rstrip()),
    ],
)
def test_ours_are_lines_of_their_own_and_the_rest_stays(
    started: Path, before: bytes, after: bytes
) -> None:
    (started / ".gitignore").write_bytes(before)
    written = init(folder=started).written
    assert (started / ".gitignore").read_bytes() == after
    assert written == ((".gitignore",) if before != after else ())
    assert ignored(started, "outputs/x", ".slmcompile/x", "recipes/tiny.yaml") == [
        "outputs/x",
        ".slmcompile/x",
    ]


def test_a_file_behind_a_link_is_not_added_to(started: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "profile"
    elsewhere.write_text("mine\n", encoding="utf-8")
    (started / ".gitignore").unlink()
    (started / ".gitignore").symlink_to(elsewhere)
    with pytest.raises(RefusedError, match="symbolic link"):
        init(folder=started)
    (started / ".gitignore").unlink()
    assert elsewhere.read_text(encoding="utf-8") == "mine\n"


def test_the_branch_is_main_whatever_the_default_of_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[init]\n\tdefaultBranch = trunk\n", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (tmp_path / "new").mkdir()
    init(folder=tmp_path / "new")
    head = (tmp_path / "new" / ".git" / "HEAD").read_text(encoding="ascii")
    assert head == "ref: refs/heads/main\n"


def test_a_project_without_git_gets_what_is_missing_and_no_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of recipes; then an archive of a project, where DVC's files came along."""
    root = make_project(tmp_path / "project", data=())
    for name in ("tiny", "quickstart"):
        (root / "recipes" / f"{name}.yaml").rename(root / "recipes" / f"our-{name}.yaml")
    recipes = sorted(path.name for path in (root / "recipes").iterdir())
    monkeypatch.chdir(root)
    assert main(["init"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["git: started a repository", "DVC: started a repository"]
    assert "wrote .gitignore" in said
    assert sorted(path.name for path in (root / "recipes").iterdir()) == recipes
    assert not (root / "data").exists()
    shutil.rmtree(root / ".git")
    assert main(["init"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "git: started a repository"
    assert main(["init"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "nothing to do: all is there"


def test_a_cache_without_a_config_is_kept(started: Path) -> None:
    kept = started / ".dvc" / "cache" / "files" / "md5" / "ab" / "cd"
    kept.parent.mkdir(parents=True)
    kept.write_text("an artifact", encoding="utf-8")
    (started / ".dvc" / "config").unlink()
    (started / ".dvc" / ".gitignore").unlink()
    assert init(folder=started).set_up == ("DVC: started a repository",)
    assert kept.read_text(encoding="utf-8") == "an artifact"
    assert "hardlink,reflink" in (started / ".dvc" / "config").read_text(encoding="utf-8")
    assert ignored(started, ".dvc/cache/x", ".dvc/tmp/x") == [".dvc/cache/x", ".dvc/tmp/x"]


def test_what_git_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[broken\n", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (tmp_path / "new").mkdir()
    with pytest.raises(MissingError, match=r"git init failed: .*bad config"):
        init(folder=tmp_path / "new")


def test_an_example_is_brought_along_when_it_is_asked_for(started: Path) -> None:
    done = init("quickstart", started)
    assert "recipes/quickstart.yaml" in done.written
    assert done.recipe == "quickstart"
    assert (started / "recipes" / "tiny.yaml").is_file()


def test_an_example_with_adapters_brings_all_of_their_data_with_its_notices(started: Path) -> None:
    init("assistant", started)
    found = compile_recipe(Project(started), "assistant", []).files
    folders = {(started / path).parent for path in found if path.startswith("data/")}
    assert {folder.name for folder in folders} == {"titles", "tone", "voice-intents"}
    for folder in folders:
        assert (folder / "NOTICE").is_file()
