"""A terminal, a pipe or a disk that takes not all of our output changes no exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import Exit
from tests.projects import environment, make_project

PLAN = [sys.executable, "-m", "slmcompile", "plan", "tiny"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("streams"))


def planned(project: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    encoding = {"PYTHONIOENCODING": given.pop("encoding", "utf-8")}
    env = environment() | encoding
    return subprocess.run([*PLAN, *words], cwd=project, env=env, check=False, timeout=60, **given)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_a_stream_that_lacks_a_character_gets_ascii_in_its_place(
    project: Path, encoding: str
) -> None:
    whole = planned(project).stdout.decode("utf-8")
    assert "–" in whole
    narrow = planned(project, encoding=encoding)
    assert (narrow.returncode, narrow.stderr) == (0, b"")
    assert narrow.stdout.decode("ascii") == whole.replace("–", "-")


def test_json_means_the_same_in_every_encoding(project: Path) -> None:
    wide = planned(project, "train.learning_rate=ü𝄞", "--json")
    narrow = planned(project, "train.learning_rate=ü𝄞", "--json", encoding="ascii")
    assert not wide.stdout.isascii()
    assert narrow.stdout.isascii()
    assert json.loads(narrow.stdout) == json.loads(wide.stdout.decode("utf-8"))
    assert narrow.returncode == wide.returncode == Exit.BAD_RECIPE


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--detailed-exitcode",), Exit.CHANGES)])
def test_a_reader_that_went_away_changes_no_exit_code(
    project: Path, words: tuple[str, ...], code: int
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = planned(project, *words, stdout=gone)
        silent = planned(project, *words, stdout=gone, stderr=gone)
    assert (done.returncode, done.stderr) == (code, b"")
    assert silent.returncode == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [(), ("--help",)])
def test_output_that_finds_no_room_is_said(project: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = planned(project, *words, stdout=full)
        mute = planned(project, *words, stdout=full, stderr=full)
    assert done.returncode == mute.returncode == Exit.MISSING
    assert done.stderr.decode().splitlines()[0].startswith("error: standard output: cannot be")


@pytest.mark.parametrize(
    ("closed", "recipe", "code"),
    [(">&-", "tiny", 0), ("<&-", "tiny", 0), (">&- 2>&- <&-", "nope", Exit.BAD_RECIPE)],
)
def test_a_closed_stream_is_no_error(project: Path, closed: str, recipe: str, code: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m slmcompile plan {recipe} {closed}', sys.executable],
        cwd=project, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_terminal_is_still_one(project: Path) -> None:
    """Wrapped to its width, in its encoding."""
    ours, theirs = pty.openpty()
    shell = f"stty cols 48 <&0; exec {' '.join(PLAN)}"
    environ = environment() | {"PYTHONIOENCODING": "ascii", "TERM": "xterm"}
    environ.pop("COLUMNS", None)
    child = subprocess.Popen(
        ["sh", "-c", shell], cwd=project, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while piece := _read(ours):
        said += piece
    os.close(ours)
    assert child.wait() == 0
    lines = said.decode("ascii").splitlines()
    assert any("tiny/train" in line for line in lines)
    assert max(len(line) for line in lines) <= 48


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the last writer is gone
        return b""


def prepared(code: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    program = f"from slmcompile.console import streams\n{code}"
    env = os.environ | {"PYTHONIOENCODING": "utf-8"}
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(
        [sys.executable, "-c", program], env=env, check=False, timeout=60, **given
    )


def test_what_only_talks_ends_with_its_reader() -> None:
    endless = "streams.prepare(lasting=False)\nwhile True: print('y', flush=True)"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = prepared(endless, stdout=gone)
    assert done.returncode == 1
    assert b"BrokenPipeError" in done.stderr


def test_what_we_start_outlives_the_reader_too() -> None:
    """After our own first failed write, children write to nowhere and are not killed."""
    code = "streams.prepare()\nimport subprocess, sys\nprint('x', flush=True)\n"
    code += "sys.exit(subprocess.run(['sh', '-c', 'echo y && exit 7']).returncode)"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = prepared(code, stdout=gone)
    assert (done.returncode, done.stderr) == (7, b"")


def test_input_in_another_encoding_is_bad_data() -> None:
    done = prepared("streams.prepare()\ninput()", input=b"caf\xe9\n")
    assert b"BadDataError: standard input: the byte 0xe9 is no utf-8" in done.stderr


def test_a_word_in_another_encoding_is_said(project: Path) -> None:
    words = [sys.executable, "-m", "slmcompile", "generate", "tiny", b"caf\xe9"]
    done = subprocess.run(
        words,
        cwd=project,
        env=environment() | {"PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == Exit.USAGE
    assert rb"caf\udce9: is not utf-8" in done.stderr
