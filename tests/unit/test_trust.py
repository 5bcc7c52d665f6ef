"""Planning a stranger's recipe is safe: nothing runs, nothing outside is opened, all is bounded.

Every attempt of ``hostile.py`` is planned in a child process with 512 MB in which an audit hook
sees each file, process and socket; a few are planned once more under strace, which sees what an
audit hook cannot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import CorruptError
from slmcompile.console.printable import json_text
from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.project import Project
from tests.pretend import pretend_run
from tests.projects import REPOSITORY, make_project
from tests.unit.audited_plans import SECONDS
from tests.unit.forged import FORGED, Forged
from tests.unit.hostile import ATTEMPTS, Hostile

SECRET = "the-secret-of-this-machine"
SYSTEM = (
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/self/cgroup",  # the standard library of pydantic's Rust core counts processors
    "/sys/fs/cgroup/",
    "/usr/",
    "/lib",
    "/etc/ld.so",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
)


@cache
def python_and_slmcompile() -> tuple[str, ...]:
    """Folders of Python's installation and of slmcompile, as written and as they really lie."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages()}
    folders |= set(sysconfig.get_paths().values())
    folders |= {str(REPOSITORY / name) for name in ("slmcompile", "conf", "tests")}
    return tuple(f"{path}/" for folder in folders for path in (folder, os.path.realpath(folder)))


def allowed(path: str, root: Path) -> bool:
    """Whether a path is the project's, Python's, slmcompile's or the system's libraries'."""
    # Python lists the folders of its import path; a checkout is one of them.
    if path in sys.path or path == str(root):
        return True
    return f"{path}/".startswith((*SYSTEM, f"{root}/", *python_and_slmcompile()))


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside").resolve()
    (folder / "secret.yaml").write_text(f"description: {SECRET}\n", encoding="utf-8")
    return folder


def environment() -> dict[str, str]:
    return os.environ | {"CANARY_SECRET": SECRET, "PYTHONDONTWRITEBYTECODE": "1"}


def audited(requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What came of every command, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.audited_plans"],
        cwd=REPOSITORY,
        env=environment(),
        input=json.dumps(requests),
        text=True,
        capture_output=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(requests), f"after {len(lines)}: {done.stderr}"
    return [
        {**json.loads(line), "root": request["root"]}
        for line, request in zip(lines, requests, strict=True)
    ]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Mapping[str, Any]:
    """What came of every attempt, by its name."""
    requests: list[dict[str, Any]] = []
    for number, attempt in enumerate(ATTEMPTS):
        root = make_project(tmp_path_factory.mktemp(f"p{number}").resolve(), data=("tiny",))
        (root / ".dvc").mkdir()
        words = attempt.lay_out(root, str(outside / "canary"), str(outside / "secret.yaml"))
        requests.append({"root": str(root), "words": words})
    found = audited(requests)
    return {attempt.name: answer for attempt, answer in zip(ATTEMPTS, found, strict=True)}


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Mapping[str, Any]:
    """What came of every forged file, by the attempt's name."""
    ran = Project(make_project(tmp_path_factory.mktemp("ran").resolve(), data=("tiny",)))
    (ran.recipes / "quickstart.yaml").unlink()
    pretend_run(ran, compile_recipe(ran, "tiny", ()))
    (outside / "secret.json").write_text(json.dumps({"config": {"token": SECRET}}))
    requests: list[dict[str, Any]] = []
    for number, attempt in enumerate(FORGED):
        to = tmp_path_factory.mktemp(f"f{number}").resolve() / "project"
        project = Project(shutil.copytree(ran.root, to))
        attempt.spoil(project, outside)
        requests.append({"root": str(project.root), "words": list(attempt.words)})
    found = audited(requests)
    return {attempt.name: answer for attempt, answer in zip(FORGED, found, strict=True)}


def test_every_attempt_has_a_name_of_its_own() -> None:
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS) > 150
    assert len({attempt.name for attempt in FORGED}) == len(FORGED) > 90


def check_printed(answer: Mapping[str, Any]) -> None:
    """Nothing that is printed can act; each error is two lines, in our words."""
    text = answer["out"] + answer["err"]
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text
    )
    assert not re.search("[\ud800-\udfff]", text)
    assert "hf_" not in text
    if answer["code"] != 0:
        # One line for what is wrong, one for the mend, neither without end; 20 errors at most.
        lines = answer["err"].splitlines()
        assert len(lines) <= 2 * 20 + 1
        assert all(line.startswith(("error: ", "  mend: ")) for line in lines[:40])
        assert lines[0].startswith("error: ")
        assert max(map(len, lines)) < 800
    for word in ("omegaconf", "hydra.cc", "pydantic", "ConfigCompositionException", "struct"):
        assert word not in answer["err"]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_a_strangers_recipe_gets_out_nowhere(
    attempt: Hostile, answers: Mapping[str, Any], outside: Path
) -> None:
    check_contained(attempt.code, answers[attempt.name])
    assert not (outside / "canary").exists()


@pytest.mark.parametrize("attempt", FORGED, ids=lambda attempt: attempt.name)
def test_forged_files_get_out_nowhere(
    attempt: Forged, forged: Mapping[str, Any], outside: Path
) -> None:
    check_contained(attempt.code, forged[attempt.name])
    assert sorted(path.name for path in outside.iterdir()) == ["secret.json", "secret.yaml"]


def check_contained(code: int, answer: Mapping[str, Any]) -> None:
    """It ended with this code, soon, and nothing outside of the project was touched."""
    text = answer["out"] + answer["err"]
    assert answer["code"] == code, answer["err"]
    assert "Traceback" not in text
    assert SECRET not in text
    assert answer["seconds"] < SECONDS
    opened = [event.removeprefix("open ") for event in answer["seen"] if event.startswith("open ")]
    assert [path for path in opened if not allowed(path, Path(answer["root"]))] == []
    assert [event for event in answer["seen"] if not event.startswith("open ")] == []
    check_printed(answer)


def test_an_error_has_an_end_and_shows_no_credential() -> None:
    error = CorruptError("x" * 5000, f"see hf_{'a' * 34} in task-of-many-words-that-is-no-secret")
    assert len(error.what) == 1000
    assert error.mend == "see [redacted] in task-of-many-words-that-is-no-secret"
    assert json.loads(json_text({"text": "-----BEGIN PRIVATE KEY-----\nx", "n": 1})) == {
        "text": "[redacted]",
        "n": 1,
    }


strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)"
)


@strace
@pytest.mark.parametrize("name", ["_target_ at the top", "an option is a link", ""])
def test_the_kernel_was_asked_for_nothing_else(name: str, tmp_path: Path, outside: Path) -> None:
    """An empty name plans the shipped recipe, so that success is watched too."""
    attempt = next((each for each in ATTEMPTS if each.name == name), Hostile("", 0))
    root = make_project(tmp_path.resolve() / "project", data=("tiny",))
    words = attempt.lay_out(root, str(outside / "canary"), str(outside / "secret.yaml"))
    log = tmp_path / "strace.log"
    calls = "trace=open,openat,execve,execveat,connect,socket,fork,vfork"
    program = [sys.executable, "-m", "slmcompile", *words]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", str(log), *program],
        cwd=root, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "ptrace" in done.stderr and not log.stat().st_size:
        pytest.skip("strace may not trace here (no ptrace right)")
    assert done.returncode == attempt.code, done.stderr
    text = log.read_text(encoding="utf-8", errors="replace")
    assert text.count("execve(") == 1  # python itself
    assert not re.search(r"\b(connect|socket|fork|vfork|execveat)\(", text)
    opened = re.findall(r'open(?:at)?\([^"]*"([^"]*)".*= \d+', text)
    full = [os.path.normpath(root / path) for path in opened]
    assert [path for path in full if not allowed(path, root)] == []
    assert not (outside / "canary").exists()
