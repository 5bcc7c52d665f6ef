"""Code of the project in a container: it trains to the same bytes and gets hold of nothing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit, MissingError
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.files.artifact import sha256_file
from slmcompile.machine.container import require_containers
from slmcompile.recipe.project import Project
from tests import hostile_loss
from tests.hostile_loss import FOUND, KEY, LEFT_BEHIND, SECRET
from tests.loss_files import MINE, write_loss
from tests.projects import environment, make_project
from tests.run_stages import run_stages

SPEC = "pipelines/mine/plan/train.json"
LOSS = """\
train:
  max_steps: 4
  save_steps: 1
  loss: {type: python, file: losses/mine.py, name: FirstCounts}
"""
GROUP = """
defaults:
  - model: tiny-llama
  - train: tiny
  - adapter@adapters.one: commands
  - adapter@adapters.two: commands
  - target: [cpu-fp32]
  - track: none
  - _self_
train: {max_steps: 2}
adapters:
  one: {train: {loss: {type: python, file: losses/mine.py, name: FirstCounts}}}
  two: {train: {lora: {r: 4}}}
"""
OF_GROUP = """
defaults:
  - /data: tiny-commands
  - /eval: structured
"""
ISOLATED = {"SLMCOMPILE_ISOLATE": "1"}


def _works() -> bool:
    try:
        require_containers()
    except MissingError:
        return False
    return True


contained = pytest.mark.skipif(not _works(), reason="bubblewrap does not work here")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a loss of its own, base and rows made."""
    root = make_project(tmp_path_factory.mktemp("made").resolve() / "project", data=("tiny",))
    write_loss(root, hostile_loss.that_tells())
    (root / "conf/policy/default.yaml").write_text("code: [losses/mine.py]\n")
    recipe = (root / "recipes/tiny.yaml").read_text()
    (root / "recipes/mine.yaml").write_text(recipe + LOSS)
    run_stages(root, "mine", "base", "data", "check")
    return root


@pytest.fixture(scope="module")
def plain(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the training gives that is not isolated."""
    root = _copy(made, tmp_path_factory.mktemp("plain"))
    done = _exec(root, {})
    assert done.returncode == 0, done.stderr
    return _digests(root / "outputs/mine/train")


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return _copy(made, tmp_path)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    for pid in _left_behind():
        os.kill(pid, signal.SIGKILL)


def _copy(made: Path, folder: Path) -> Path:
    return Path(shutil.copytree(made, folder.resolve() / "project", symlinks=True))


def _planned(project: Path, loss: str) -> Path:
    """With that loss, and the plan made for it."""
    write_loss(project, loss)
    sync(Project(project), [compile_recipe(Project(project), "mine")])
    return project


WITH_A_KEY = f"""
import ctypes, os, sys
system = ctypes.CDLL(None)
system.syscall(250, 1, None)
system.syscall(248, b"user", b"{KEY}", b"{SECRET}", {len(SECRET)}, -3)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""A session of its own with a secret in its keyring, and in that the command: of x86_64."""
HAS_KEYS = platform.machine() == "x86_64" and Path("/proc/keys").exists()


def _exec(
    project: Path, more: Mapping[str, str], spec: str = SPEC
) -> subprocess.CompletedProcess[str]:
    session = ["-c", WITH_A_KEY] if HAS_KEYS and more.get("HOME") else []
    words = [*session, "-m", "slmcompile", "exec", spec]
    return subprocess.run(
        [sys.executable, *words],
        cwd=project, env={**environment(), **more}, text=True, capture_output=True, check=False,
    )  # fmt: skip


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _weights(project: Path) -> str:
    return _digests(project / "outputs/mine/train")["adapter/adapter_model.safetensors"]


def _left_behind() -> list[int]:
    """Processes of this machine that a loss has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if LEFT_BEHIND.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def _wait_for(what: str, seen: object) -> None:
    """Until something is so; a minute is long for it."""
    assert callable(seen)
    for _ in range(6000):
        if seen():
            return
        time.sleep(0.01)
    raise AssertionError(f"{what}: waited for in vain")


# One loss reads and writes, what it may not.


@pytest.fixture
def listeners() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    with (
        socket.socket() as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        abstract.bind(f"\0slmcompile-test-{os.getpid()}")
        tcp.listen()
        abstract.listen()
        for each in (tcp, udp, abstract):
            each.setblocking(False)
        yield tcp, udp, abstract


def _spying(project: Path, listeners: tuple[socket.socket, ...]) -> dict[str, str]:
    """The project with secrets around it and a loss that looks for them; its environment."""
    tcp, udp, abstract = listeners
    home = project.parent / "home"
    for path in (
        home / ".netrc",
        home / ".config/tool/token.txt",
        project / ".dvc/config.local",
        project / ".git/config",
        project / ".slmcompile/other.txt",
        project / ".env",
        project / "notes.txt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"password = {SECRET}\n")
    name = abstract.getsockname().decode().removeprefix("\0")
    ports = tcp.getsockname()[1], udp.getsockname()[1]
    _planned(project, hostile_loss.of_secrets(*ports, name, "localhost"))
    return {"HOME": str(home), "AWS_SECRET_ACCESS_KEY": SECRET, "ACTIONS_RUNTIME_TOKEN": SECRET}


def _heard(listeners: tuple[socket.socket, ...]) -> list[str]:
    tcp, udp, abstract = listeners
    heard = []
    for name, listen in (
        ("tcp", tcp.accept),
        ("udp", lambda: udp.recvfrom(9)),
        ("socket", abstract.accept),
    ):
        with suppress(BlockingIOError):
            got, _ = listen()
            heard.append(name)
            if isinstance(got, socket.socket):
                got.close()
    return heard


def _of_others(project: Path) -> dict[str, str]:
    """All files but what is this training's to write."""
    own = ("outputs/mine/", "pipelines/mine/metrics/", "pipelines/mine/plots/", ".slmcompile/")
    return {path: sha for path, sha in _digests(project).items() if not path.startswith(own)}


@contained
def test_loss_reads_secrets(
    project: Path, plain: dict[str, str], listeners: tuple[socket.socket, ...]
) -> None:
    secrets = _spying(project, listeners)
    before = _of_others(project)
    done = _exec(project, {**ISOLATED, **secrets})
    assert done.returncode == 0, done.stdout + done.stderr
    out = project / "outputs/mine/train"
    assert json.loads((out / FOUND).read_text()) == {}
    assert _heard(listeners) == []
    assert _of_others(project) == before
    assert _left_behind() == []
    assert not {
        name: sha
        for name, sha in _digests(out).items()
        if name not in {FOUND, "manifest.json"} and plain[name] != sha
    }
    assert SECRET not in done.stdout + done.stderr


def test_the_same_loss_gets_hold_of_all_that_where_it_is_not_isolated(
    project: Path, plain: dict[str, str], listeners: tuple[socket.socket, ...]
) -> None:
    """What the test before shows is the container's work."""
    secrets = _spying(project, listeners)
    before = _of_others(project)
    done = _exec(project, secrets)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((project / "outputs/mine/train" / FOUND).read_text())
    wanted = {"variables", "other processes", "their variables", "files", "tcp", "socket", "names"}
    assert wanted | ({"keys"} if HAS_KEYS else {*()}) <= {*found}
    assert ".dvc/config.local" in found["files"] or ".netrc" in found["files"]
    assert {*_heard(listeners)} == {"tcp", "udp", "socket"}
    assert _of_others(project) != before
    assert _left_behind()
    assert _weights(project) != plain["adapter/adapter_model.safetensors"]


# What it leaves, says and does to its own process.


@contained
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("symlink", "weights: a symbolic link"),
        ("hard link in scratch", ": a hard link"),
        ("fifo", "adapter_config.json: a FIFO"),
        ("many", "more than 10000 files"),
        ("forged", "what came out of the container is not what a stage says"),
    ],
)
def test_loss_writes_links(project: Path, name: str, says: str) -> None:
    _planned(project, hostile_loss.of(name))
    done = _exec(project, ISOLATED)
    assert done.returncode == Exit.CORRUPT, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((project / "outputs/mine").iterdir()), "nothing is put into place or left"
    assert not (project / "pipelines/mine/metrics/train.json").exists()
    assert (
        not list((project / ".slmcompile/scratch").glob("*/isolated/*/*")) or "scratch" not in name
    )


@contained
def test_loss_kills_its_parent_and_everybody_else(project: Path, plain: dict[str, str]) -> None:
    _planned(project, hostile_loss.of("kills"))
    done = _exec(project, ISOLATED)
    assert done.returncode == 0, done.stderr
    assert _weights(project) == plain["adapter/adapter_model.safetensors"]


@contained
def test_loss_loops_for_ever(project: Path) -> None:
    _planned(project, hostile_loss.of("for ever"))
    done = _exec(project, {**ISOLATED, "SLMCOMPILE_ISOLATE_SECONDS": "8"})
    assert done.returncode == Exit.STAGE_FAILED
    assert "has run for more than 8 s" in done.stderr
    assert _left_behind() == []
    assert not list((project / "outputs/mine").iterdir())


@contained
def test_loss_leaves_without_a_word(project: Path) -> None:
    _planned(project, hostile_loss.of("leaves"))
    done = _exec(project, ISOLATED)
    assert done.returncode == Exit.STAGE_FAILED
    assert "the program in the container ended with exit 0 and without a result" in done.stderr


@contained
def test_log_commands(project: Path) -> None:
    """What a runner's log obeys stands at no line's beginning, and nothing moves a cursor."""
    _planned(project, hostile_loss.of("prints"))
    done = _exec(project, ISOLATED)
    assert done.returncode == Exit.STAGE_FAILED
    said = done.stdout + done.stderr
    for word in ("add-mask", "error", "warning", "group", "stop-commands"):
        assert f"::{word}::hello" in said, "it is said"
    lines = said.replace("\r", "\n").splitlines()
    assert not [line for line in lines if line.lstrip().startswith("::")]
    assert "\x1b" not in said
    assert "mine.py:" in done.stderr
    assert "ValueError" in done.stderr


# Training itself.


@contained
def test_a_training_is_the_same_to_the_byte(project: Path, plain: dict[str, str]) -> None:
    """With the threads that it has elsewhere, and over inputs that DVC has linked to its cache."""
    cache = project / ".dvc/cache"
    cache.mkdir(parents=True)
    for path in [each for each in project.glob("outputs/*/*") if each.is_file()]:
        kept = cache / f"{path.parent.name}-{path.name}"
        path.rename(kept)
        path.symlink_to(kept)
    done = _exec(project, ISOLATED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "executes losses/mine.py, code of this project" in done.stdout
    assert _digests(project / "outputs/mine/train") == plain
    assert "threads.json" in plain
    assert not list((project / ".slmcompile/scratch").iterdir())


@contained
def test_adapters_of_a_group_are_signed_outside(project: Path) -> None:
    """Whoever runs beside the code could say that an adapter is another one's."""
    (project / "recipes/group.yaml").write_text(GROUP)
    (project / "conf/adapter").mkdir(exist_ok=True)
    (project / "conf/adapter/commands.yaml").write_text(OF_GROUP)
    spec = "pipelines/group/plan/train.json"
    signed = []
    for loss, more in ((MINE, {}), (hostile_loss.that_signs(), ISOLATED)):
        write_loss(project, loss)
        plan = compile_recipe(Project(project), "group")
        sync(Project(project), [plan])
        done = _exec(project, more, spec)
        assert done.returncode == 0, done.stdout + done.stderr
        folders = (project / "outputs/group/train/adapters").iterdir()
        signed.append({each.name: _digests(each) for each in folders})
    assert [*map(sorted, signed)] == [["one", "two"], ["one", "two"]]
    assert signed[0]["two"] == signed[1]["two"], "it does not depend on the code"
    manifest = json.loads((project / "outputs/group/train/adapters/one/manifest.json").read_text())
    assert manifest["fingerprint"] != "f" * 64
    assert manifest["info"] == {}


@contained
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_goes_on_where_it_was_stopped_or_killed(
    project: Path, plain: dict[str, str], number: signal.Signals
) -> None:
    _planned(project, hostile_loss.that_stops())
    words = [sys.executable, "-m", "slmcompile", "exec", SPEC]
    with subprocess.Popen(
        words, cwd=project, env=environment() | ISOLATED, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        scratch = project / ".slmcompile/scratch"
        _wait_for("its third call", lambda: list(scratch.glob("*/isolated/*/stopped")))
        assert _left_behind(), "others run in the container"
        running.send_signal(number)
        _, said = running.communicate()
    if number == signal.SIGTERM:
        assert running.returncode == Exit.TERMINATED, said
        assert "checkpoint written" in said
    else:
        assert running.returncode == -signal.SIGKILL
    _wait_for("the end of all in the container", lambda: not _left_behind())
    assert list(scratch.glob("*/isolated/*/step-*")), "it has left a checkpoint"
    done = _exec(project, ISOLATED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _weights(project) == plain["adapter/adapter_model.safetensors"]
    told = json.loads((project / "pipelines/mine/plots/train.json").read_text())
    assert told["resumed_from"]


# Where there are no containers.


def _without(project: Path, bubblewrap: str) -> dict[str, str]:
    """An environment whose only program is that, if it is any."""
    folder = project.parent / "programs"
    folder.mkdir()
    if bubblewrap:
        (folder / "bwrap").write_text(f"#!/bin/sh\n{bubblewrap}\n")
        (folder / "bwrap").chmod(0o755)
    return {**ISOLATED, "PATH": str(folder)}


@pytest.mark.parametrize(
    ("bubblewrap", "says"),
    [
        ("", "bubblewrap is not installed\n  mend: `apt-get install bubblewrap`"),
        (
            "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1",
            "bubblewrap does not work: bwrap: setting up uid map: Permission denied\n  mend: ",
        ),
        ("exit 7", "bubblewrap does not work: it ended with 7\n  mend: "),
    ],
)
def test_without_containers_the_code_is_not_executed(
    project: Path, bubblewrap: str, says: str
) -> None:
    _planned(project, MINE + 'from pathlib import Path\nPath(__file__).with_name("ran").touch()\n')
    env = _without(project, bubblewrap)
    done = _exec(project, env)
    assert done.returncode == Exit.MISSING
    assert says in done.stderr
    assert not (project / "losses/ran").exists()
    # A stage without code of the project needs none.
    assert _exec(project, env, "pipelines/mine/plan/check.json").returncode == 0


@contained
@pytest.mark.parametrize("path", [".dvc/config.local", "data/../.env", "/etc/hostname"])
def test_a_spec_of_a_stranger_gives_the_code_nothing_that_is_hidden(
    project: Path, path: str
) -> None:
    for each in (".dvc/config.local", ".env"):
        (project / each).parent.mkdir(exist_ok=True)
        (project / each).write_text(SECRET)
    spec = json.loads((project / SPEC).read_text())
    spec["files"].append(path)
    (project / SPEC).write_text(json.dumps(spec))
    done = _exec(project, ISOLATED)
    assert done.returncode == Exit.REFUSED
    assert f"{path} is not for code of the project to read" in done.stderr


def test_a_limit_that_is_no_number_is_refused(project: Path) -> None:
    done = _exec(project, {**ISOLATED, "SLMCOMPILE_ISOLATE_SECONDS": "1h"})
    assert done.returncode == Exit.USAGE
    assert "SLMCOMPILE_ISOLATE_SECONDS is not a number of seconds" in done.stderr
