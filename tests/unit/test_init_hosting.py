"""``init --github`` and ``--gitlab`` write what jobs need, overwrite nothing, say what to set."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from slmcompile.ci.own_lock import own_lock
from slmcompile.ci.workflow_files import EXTRAS, LOCK, github, gitlab
from slmcompile.cli.main import main
from slmcompile.console.errors import Exit, MissingError
from tests.own_files import FILES

PLAN = ".github/workflows/plan.yml"


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def files(root: Path) -> dict[str, bytes]:
    """All of a project but for what git and DVC keep."""
    found = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def lock() -> str:
    return own_lock(EXTRAS)


def test_a_new_project_has_workflows_a_lock_and_what_to_set_in_its_readme(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tickets.csv").write_bytes(FILES["semicolons.csv"].content)
    root = tmp_path / "bot"
    words = ["init", str(root), "--data", str(tmp_path / "tickets.csv"), "--github"]
    assert main(words) == Exit.DONE
    said = capsys.readouterr().out
    for path, text in github("main").items():
        assert (root / path).read_text(encoding="utf-8") == text
        assert f"wrote {path}\n" in said
    assert (root / LOCK).is_file()
    readme = (root / "README.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\d\. .*$", readme, re.MULTILINE)
    assert len(steps) == 5
    assert "to set on GitHub:\n" + "\n".join(steps) in said


def test_a_second_time_there_is_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "bot"), "--gitlab"]) == Exit.DONE
    before = files(tmp_path / "bot")
    assert before[".gitlab-ci.yml"].decode() == gitlab()[".gitlab-ci.yml"]
    capsys.readouterr()
    assert main(["init", str(tmp_path / "bot"), "--gitlab"]) == Exit.DONE
    assert capsys.readouterr().out.startswith("nothing to do: all is there\nto set on GitLab:\n")
    assert files(tmp_path / "bot") == before


def test_a_workflow_of_somebodys_own_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / PLAN
    own.parent.mkdir(parents=True)
    own.write_text("name: mine\n", encoding="utf-8")
    assert main(["init", str(tmp_path), "--github"]) == Exit.USAGE
    assert f"{PLAN}: exists, and is not overwritten" in capsys.readouterr().err
    assert files(tmp_path) == {PLAN: b"name: mine\n"}


def test_a_lock_that_was_completed_with_hashes_stays(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("slmcompile==0 --hash=sha256:00\n", encoding="utf-8")
    assert main(["init", str(tmp_path), "--github"]) == Exit.DONE
    assert (tmp_path / LOCK).read_text(encoding="utf-8").startswith("slmcompile==0 ")


@pytest.mark.parametrize("there", [False, True])
def test_below_the_top_of_a_repository_no_host_would_look(tmp_path: Path, there: bool) -> None:
    git(tmp_path, "init", "--quiet")
    if there:
        (tmp_path / "below").mkdir()
    assert main(["init", str(tmp_path / "below"), "--github"]) == Exit.USAGE
    assert (tmp_path / "below").exists() == there


def test_a_folder_of_workflows_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / ".github").symlink_to(tmp_path / "elsewhere")
    assert main(["init", str(tmp_path / "bot"), "--github"]) == Exit.REFUSED
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_default_branch_is_the_remotes_and_not_the_one_that_is_checked_out(
    tmp_path: Path,
) -> None:
    git(tmp_path, "init", "--quiet", "-b", "feature")
    git(tmp_path, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
    assert main(["init", str(tmp_path), "--github"]) == Exit.DONE
    triggers = yaml.safe_load((tmp_path / PLAN).read_text(encoding="utf-8"))[True]
    assert triggers["pull_request"]["branches"] == ["trunk"]


def test_the_lock_holds_what_is_installed_exactly_and_nothing_of_developers(lock: str) -> None:
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    needs = [Requirement(line) for line in lines]
    assert needs[0].name == "slmcompile"
    assert {*EXTRAS} <= needs[0].extras
    assert not needs[0].extras & {"dev", "test"}
    assert [str(need.specifier) for need in needs[1:]] == [
        f"=={version(need.name).partition('+')[0]}" for need in needs[1:]
    ]
    names = {need.name for need in needs}
    assert {"torch", "dvc", "hydra-core", "pyyaml", "cryptography", "pygithub"} <= names
    assert not names & {"pytest", "mypy", "ruff", "zizmor", "hypothesis"}


def test_the_lock_lacks_nothing_that_one_of_its_packages_needs(lock: str) -> None:
    """As pip's own check says of an environment with these alone."""
    needs = [Requirement(line) for line in lock.splitlines() if not line.startswith("#")]
    names = {re.sub(r"[-_.]+", "-", need.name).lower() for need in needs}
    for name in names:
        for text in requires(name) or ():
            below = Requirement(text)
            if below.marker is None or below.marker.evaluate({"extra": ""}):
                assert re.sub(r"[-_.]+", "-", below.name).lower() in names


@pytest.mark.parametrize("there", [False, True])
def test_a_driver_of_a_bucket_is_in_the_lock_and_else_asked_for(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that cannot reach the remote would find out when it has trained."""
    need = "Requires-Dist: below-s3; extra == 's3'\n"
    extra = f"Provides-Extra: s3\n{need}" if there else ""
    head = f"Name: slmcompile\nVersion: 9.0\n{extra}"
    for name, text in (("slmcompile", head), ("below_s3", "Name: below-s3\nVersion: 3.2\n")):
        made = tmp_path / f"{name}-9.0.dist-info"
        made.mkdir()
        (made / "METADATA").write_text(f"Metadata-Version: 2.1\n{text}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = own_lock()
    assert ("below-s3==3.2" in found.splitlines()) == there
    assert ("pip install 'slmcompile[s3]'" in found) != there


def test_a_lock_says_what_is_left_to_do_to_what_no_index_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside hashes pip takes no address of git, and a folder no runner has."""
    made = tmp_path / "slmcompile-9.0.dist-info"
    made.mkdir()
    head = "Metadata-Version: 2.1\nName: slmcompile\nVersion: 9.0\n"
    (made / "METADATA").write_text(head, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    origin = made / "direct_url.json"
    origin.write_text('{"url": "file:///x", "dir_info": {}}', encoding="utf-8")
    assert "from a folder here, which no runner has" in own_lock()
    commit = "a" * 40
    text = f'{{"url": "https://e.example/x", "vcs_info": {{"commit_id": "{commit}"}}}}'
    origin.write_text(text, encoding="utf-8")
    found = own_lock()
    assert "pip takes no git+ address beside hashes" in found
    assert f"slmcompile @ git+https://e.example/x@{commit}\n" in found
    origin.unlink()
    assert "in its place" not in own_lock()


def test_a_lock_without_what_the_jobs_need_is_not_made() -> None:
    with pytest.raises(MissingError, match=r"slmcompile\[unheard-of\] is not installed") as raised:
        own_lock(["unheard-of"])
    assert raised.value.mend == "pip install 'slmcompile[unheard-of]'"
