"""Objects come from origin and one ref goes to it; nothing else of either has a say."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmcompile.ci.git_remote import fetch, is_here, push
from slmcompile.console.errors import SlmcompileError
from tests.projects import command

BRANCH = "refs/heads/mine"
PULL = "refs/pull/7/head"
TOKEN = "a-token-of-a-job"


class Pair:
    """A clone with all of its origin but a pull request of a fork."""

    def __init__(self, folder: Path) -> None:
        self.origin, self.here = folder / "origin.git", folder / "here"
        fork = folder / "fork"
        command(folder, "git", "init", "-q", "--bare", "-b", "main", str(self.origin))
        command(folder, "git", "clone", "-q", str(self.origin), str(self.here))
        self.first = self.commit(self.here, "first")
        command(self.here, "git", "push", "-q", "origin", "HEAD:refs/heads/main")
        command(folder, "git", "clone", "-q", str(self.origin), str(fork))
        self.head = self.commit(fork, "proposed")
        command(fork, "git", "tag", "a-tag")
        command(fork, "git", "push", "-q", "origin", f"HEAD:{PULL}", "a-tag")
        self.fork = fork

    @staticmethod
    def commit(where: Path, message: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        command(where, "git", *identity, "commit", "-q", "--allow-empty", "-m", message)
        return command(where, "git", "rev-parse", "HEAD").stdout.strip()

    def refs(self, where: Path | None = None) -> dict[str, str]:
        listed = command(where or self.origin, "git", "for-each-ref").stdout.splitlines()
        return {line.split("\t")[1]: line.split()[0] for line in listed}


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path.resolve())


def code_of(error: pytest.ExceptionInfo[SlmcompileError]) -> int:
    assert "\n" not in error.value.what
    return error.value.code


def test_objects_come_and_nothing_else(pair: Pair) -> None:
    before = pair.refs(pair.here)
    assert is_here(pair.here, pair.first)
    assert not is_here(pair.here, pair.head)
    fetch(pair.here, PULL, pair.head)
    assert is_here(pair.here, pair.head)
    assert pair.refs(pair.here) == before
    assert not (pair.here / ".git/FETCH_HEAD").exists()


def test_a_head_that_was_pushed_over_is_stale(pair: Pair) -> None:
    command(pair.fork, "git", "checkout", "-q", "--orphan", "other")
    pair.commit(pair.fork, "other")
    command(pair.fork, "git", "push", "-q", "-f", "origin", f"HEAD:{PULL}")
    with pytest.raises(SlmcompileError) as caught:
        fetch(pair.here, PULL, pair.head)
    assert code_of(caught) == 4


def test_what_origin_does_not_have_is_missing(pair: Pair) -> None:
    with pytest.raises(SlmcompileError) as caught:
        fetch(pair.here, "refs/pull/8/head", pair.head)
    assert code_of(caught) == 69
    command(pair.here, "git", "remote", "set-url", "origin", str(pair.origin.parent / "gone"))
    with pytest.raises(SlmcompileError) as caught:
        fetch(pair.here, PULL, pair.head)
    assert code_of(caught) == 69
    command(pair.here, "git", "remote", "remove", "origin")
    with pytest.raises(SlmcompileError) as caught:
        fetch(pair.here, PULL, pair.head)
    assert code_of(caught) == 69


def test_a_ref_goes_where_it_is_expected(pair: Pair) -> None:
    push(pair.here, pair.first, BRANCH, None)
    assert pair.refs()[BRANCH] == pair.first
    second = pair.commit(pair.here, "second")
    push(pair.here, second, BRANCH, pair.first)
    assert pair.refs()[BRANCH] == second
    push(pair.here, second, BRANCH, pair.first)  # once more, as after an answer that was lost
    assert pair.refs()[BRANCH] == second


def test_a_ref_that_another_has_moved_stays_his(pair: Pair) -> None:
    push(pair.here, pair.first, BRANCH, None)
    command(pair.fork, "git", "push", "-q", "origin", f"HEAD:{BRANCH}")
    second = pair.commit(pair.here, "second")
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, second, BRANCH, pair.first)
    assert code_of(caught) == 4
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, second, BRANCH, None)
    assert code_of(caught) == 5
    assert pair.refs()[BRANCH] == pair.head
    # Nor is what is further along set back.
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, pair.first, BRANCH, second)
    assert code_of(caught) == 4
    assert pair.refs()[BRANCH] == pair.head


def test_a_ref_that_is_gone_is_not_made_anew(pair: Pair) -> None:
    second = pair.commit(pair.here, "second")
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, second, BRANCH, pair.first)
    assert code_of(caught) == 4
    assert BRANCH not in pair.refs()


def test_a_tag_is_made_once(pair: Pair) -> None:
    tag = "refs/tags/tiny@v1.0.0"
    push(pair.here, pair.first, tag, None)
    second = pair.commit(pair.here, "second")
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, second, tag, None)
    assert code_of(caught) == 5
    assert pair.refs()[tag] == pair.first


def test_what_origin_declines_is_refused(pair: Pair) -> None:
    hook = pair.origin / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho '::error::no' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, pair.first, BRANCH, None)
    assert code_of(caught) == 77


def test_no_hook_or_program_of_the_repository_runs(pair: Pair, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    program.chmod(0o755)
    for name in ("pre-push", "reference-transaction", "post-checkout", "pre-auto-gc"):
        (pair.here / ".git/hooks" / name).symlink_to(program)
    for key in (
        "remote.origin.uploadpack", "remote.origin.receivepack", "core.fsmonitor",
        "core.sshCommand", "credential.helper", "core.askPass", "gpg.program",
    ):  # fmt: skip
        command(pair.here, "git", "config", key, str(program))
    for key in ("push.gpgSign", "push.followTags", "fetch.prune", "fetch.recurseSubmodules"):
        command(pair.here, "git", "config", key, "true")
    fetch(pair.here, PULL, pair.head)
    push(pair.here, pair.first, BRANCH, None)
    assert not canary.exists()


@pytest.mark.parametrize(
    "address", ["ext::sh -c touch% canary", "http://localhost/x", "git://localhost/x", "-x"]
)
def test_origin_is_asked_over_https_and_ssh_and_in_folders(pair: Pair, address: str) -> None:
    command(pair.here, "git", "config", "remote.origin.url", address)
    command(pair.here, "git", "config", "protocol.ext.allow", "always")
    for ask in (
        lambda: fetch(pair.here, PULL, pair.head),
        lambda: push(pair.here, pair.first, BRANCH, None),
    ):
        with pytest.raises(SlmcompileError) as caught:
            ask()
        assert code_of(caught) == 77
    assert not (pair.here / "canary").exists()


def test_an_address_that_is_written_otherwise_gets_no_other_transport(pair: Pair) -> None:
    command(pair.here, "git", "config", "protocol.ext.allow", "always")
    command(pair.here, "git", "config", "url.ext::sh -c touch% canary .insteadOf", "https://x/")
    command(pair.here, "git", "config", "remote.origin.url", "https://x/y")
    with pytest.raises(SlmcompileError):
        fetch(pair.here, PULL, pair.head)
    assert not (pair.here / "canary").exists()


@pytest.mark.parametrize(
    "ref",
    ["HEAD", "mine", "--all", "refs/heads/*", "refs/heads/a:refs/heads/b", "refs/heads/../x",
     "refs/heads/x.lock", "refs/heads/x/", "refs//x", "+refs/heads/x", "refs/heads/a b"],
)  # fmt: skip
def test_a_ref_is_a_whole_name(pair: Pair, ref: str) -> None:
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, pair.first, ref, None)
    assert code_of(caught) == 64
    with pytest.raises(SlmcompileError) as caught:
        fetch(pair.here, ref, pair.head)
    assert code_of(caught) == 64


@pytest.mark.parametrize("name", ["HEAD", "main", "-f", "", "1" * 12])
def test_a_commit_is_a_whole_hash(pair: Pair, name: str) -> None:
    with pytest.raises(SlmcompileError) as caught:
        push(pair.here, name, BRANCH, None)
    assert code_of(caught) == 64


GIT = """#!{python}
import json, os, sys
if "config" in sys.argv:
    print({address!r})
else:
    with open({log!r}, "w") as stream:
        json.dump([sys.argv, dict(os.environ)], stream)
"""
"""Says where origin is, and writes down what else it is asked for."""


def header_for(address: str, environment: dict[str, str]) -> str:
    """What git adds to its requests to an address."""
    words = ["git", "config", "--get-urlmatch", "http.extraheader", address]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("https://github.example/owner/here", True),
        ("https://github.example.evil/owner/here", False),
        ("https://elsewhere.example/owner/here", False),
        ("https://me@github.example/owner/here", False),
        ("ssh://git@github.example/owner/here", False),
        ("git@github.example:owner/here", False),
        ("/somewhere", False),
    ],
)
def test_the_token_goes_to_its_own_host_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, given: bool
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "*")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_TRACE_CURL", "1")
    log, program = tmp_path / "log.json", tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(GIT.format(python=sys.executable, address=address, log=str(log)))
    program.chmod(0o755)
    with monkeypatch.context() as instead:
        instead.setenv("PATH", str(program.parent))
        push(tmp_path, "1" * 40, BRANCH, None)
    words, environment = json.loads(log.read_text(encoding="utf-8"))
    environment["PATH"] = os.environ["PATH"]
    secret = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    assert TOKEN not in " ".join(words)
    assert secret not in " ".join(words)
    assert environment["GIT_CONFIG_KEY_0"] == "safe.directory"
    assert not {"GIT_DIR", "GIT_TRACE_CURL"} & environment.keys()
    assert environment["GIT_CONFIG_COUNT"] == ("4" if given else "1")
    if given:
        assert header_for(address, environment) == f"AUTHORIZATION: basic {secret}"
        assert header_for("https://elsewhere.example/x", environment) == ""
    else:
        assert secret not in str(environment)
