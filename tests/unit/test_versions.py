"""Versions are tags: read strictly, made once, never changed, and as GTO reads them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmcompile.cli.main import main
from slmcompile.console.errors import (
    CorruptError,
    LockedError,
    MissingError,
    RefusedError,
    SlmcompileError,
    UsageError,
)
from slmcompile.files.git import Answer, ask
from slmcompile.recipe.project import Project
from slmcompile.versions.history import History, read_history
from slmcompile.versions.objects import folder_list
from slmcompile.versions.publish import promote, register, roll_back, shared_history
from slmcompile.versions.remote_tags import Remote
from slmcompile.versions.tag_objects import Tagger, make_tag
from slmcompile.versions.tags import Number, TagName, number, parse
from tests.projects import command, environment
from tests.released import RECIPE, Released, add_result, digest, head, make_origin, tag


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Two versions, the first of which is in production; and a third result that is none yet."""
    released = make_origin(tmp_path_factory.mktemp("template").resolve() / "all")
    ann = released.clone("ann")
    for why in ("first", "second"):
        add_result(released, ann, why, stored=False)
        register(ann, RECIPE, head(ann))
    promote(ann, RECIPE, "v1.0.0", "production")
    add_result(released, ann, "third", stored=False)
    return released


@pytest.fixture
def released(template: Released, tmp_path: Path) -> Released:
    place = tmp_path.resolve() / "all"
    shutil.copytree(template.place, place, symlinks=True)
    for clone in ("ann", "start"):
        command(place / clone, "git", "remote", "set-url", "origin", str(place / "origin.git"))
    return Released(place)


@pytest.fixture
def ann(released: Released) -> Project:
    return Project(released.place / "ann")


@pytest.fixture
def bob(released: Released) -> Project:
    return released.clone("bob")


def reasons(history: History) -> dict[str, str]:
    return {each.tag: each.reason for each in history.refused}


def numbers(history: History) -> list[str]:
    return [str(each.number) for each in history.versions]


def origin_tags(project: Project) -> set[str]:
    listed = command(project.root, "git", "ls-remote", "--tags", "--refs", "origin").stdout
    return {line.split("refs/tags/")[1] for line in listed.splitlines()}


def gto(project: Project, *words: str) -> str:
    """GTO's own command line, in a process of its own."""
    program = (sys.executable, "-c", "from gto.cli import app; app()")
    return command(project.root, *program, *words).stdout


# Names.

_NAMES = [
    "tiny@v1.2.0",
    "tiny@v1.2.0!",
    "tiny@v1.2.0!#4",
    "tiny@v1.2.0#4",
    "tiny@v1.2.0-rc.1+build",
    "tiny#production",
    "tiny#production#3",
    "tiny#production!#5",
    "tiny#eu/production#5",
    "tiny@deprecated",
    "tiny@deprecated#6",
    "tiny@created#7",
    "a-b_c@v0.0.1",
]


@pytest.mark.parametrize("name", _NAMES)
def test_a_tag_of_gto_means_what_it_means_to_gto(name: str) -> None:
    from gto.tag import parse_name

    found = parse(name)
    assert found is not None
    if "created" in name:  # in GTO's grammar, and its parser fails on it
        assert found.action == "create"
    else:
        theirs = parse_name(name)
        words = {"deregister": "revoke"}
        action = theirs["action"].value
        assert found.action == words.get(action, action)
        assert (found.recipe, found.version or None, found.stage or None, found.counter) == (
            theirs["name"],
            theirs.get("version"),
            theirs.get("stage"),
            theirs.get("counter"),
        )
    assert str(found) == name


@given(st.text(alphabet="tiny@#!v.0123-_/=:deprca\n", max_size=24))
def test_what_is_a_version_tag_here_is_one_to_gto(name: str) -> None:
    from gto.constants import tag_re

    found = parse(name)
    if found is not None:
        assert str(found) == name
        if not found.version or number(found.version):
            assert tag_re.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    ["v1.2.0", "tiny", "Tiny@v1.0.0", "tiny@1.0.0", "tiny@v1.0.0\n", "a@b@v1.0.0", "a#b#c#1",
     "tiny-@v1.0.0", "tiny@v1.0.0#x", "../tiny@v1.0.0", "models=tiny@v1.0.0", "tiny#"],
)  # fmt: skip
def test_other_names_are_no_version_tags(name: str) -> None:
    assert parse(name) is None


@pytest.mark.parametrize("text", ["v1.2", "v01.2.3", "v1.2.3-rc", "1.2.3", "v1.2.3 ", "v١.2.3"])
def test_a_version_is_three_numbers(text: str) -> None:
    assert number(text) is None


def test_numbers_are_ordered_and_grow() -> None:
    assert Number(1, 10, 0) > Number(1, 9, 5)
    assert str(Number(1, 2, 3).bumped("minor")) == "v1.3.0"
    assert str(Number(1, 2, 3).bumped("major")) == "v2.0.0"
    assert str(Number(1, 2, 3).bumped("patch")) == "v1.2.4"


# What is a version.


def test_versions_have_who_when_why_and_stages(ann: Project) -> None:
    history = shared_history(ann, RECIPE, "origin")
    first, second = history.versions
    assert [str(first.number), str(second.number)] == ["v1.0.0", "v1.1.0"]
    assert (first.why, second.why) == ("first", "second")
    assert first.who == "Ann <ann@example.org>"
    assert first.when > 0
    assert history.stages() == {first.number: ["production"]}
    assert not history.refused


def test_a_clone_that_is_behind_catches_up(ann: Project, bob: Project) -> None:
    register(ann, RECIPE, head(ann), bump="major")
    assert numbers(read_history(bob.root, RECIPE)) == ["v1.0.0", "v1.1.0"]
    assert numbers(shared_history(bob, RECIPE, "origin")) == ["v1.0.0", "v1.1.0", "v2.0.0"]
    assert numbers(read_history(bob.root, RECIPE)) == ["v1.0.0", "v1.1.0", "v2.0.0"]


def test_a_fetch_of_tags_moves_and_prunes_nothing(ann: Project, bob: Project) -> None:
    for words in (
        ["fetch.prune", "true"],
        ["fetch.pruneTags", "true"],
        ["remote.origin.fetch", "+refs/tags/*:refs/tags/*"],
    ):
        command(bob.root, "git", "config", *words)
    command(bob.root, "git", "tag", "mine")
    register(ann, RECIPE, head(ann))
    shared_history(bob, RECIPE, "origin")
    assert "mine" in command(bob.root, "git", "tag").stdout.split()
    assert not (bob.root / ".git/FETCH_HEAD").exists()


@pytest.mark.parametrize(
    ("name", "message", "reason"),
    [
        ("tiny@v2.0.0", "by hand", "no line `statement"),
        ("tiny@v2.0.0", f"statement: sha256:{'0' * 64}", "and not 0000000000…"),
        ("tiny@v2.0.0", "statement: sha256:{0}\nstatement: sha256:{0}", "or several"),
        ("tiny@v2.0.0", "x statement: sha256:{0}", "no line `statement"),
        ("tiny@v2.0.0-rc.1", "statement: sha256:{0}", "three numbers"),
        ("tiny@v1.1.0#9", "statement: sha256:{0}", "is a version already"),
        ("tiny#production#9", "by hand", "no line `statement"),
        ("tiny#production#9", "statement: sha256:{0}", "no version is of its commit"),
    ],
)
def test_a_tag_made_by_hand_gives_nothing(
    ann: Project, bob: Project, name: str, message: str, reason: str
) -> None:
    tag(ann, name, message.format(digest(ann)))
    history = shared_history(bob, RECIPE, "origin")
    assert reason in reasons(history)[name]
    assert numbers(history) == ["v1.0.0", "v1.1.0"]
    assert str(history.holder("production").number) == "v1.0.0"
    if name == "tiny@v2.0.0":
        with pytest.raises(CorruptError, match="is not a version"):
            history.version(Number(2, 0, 0))
        # Its name is taken all the same.
        assert str(register(bob, RECIPE, head(ann), bump="major").number) == "v3.0.0"


def test_a_lightweight_tag_gives_and_takes_nothing(ann: Project) -> None:
    for name in ("tiny@v2.0.0", "tiny@v1.0.0!#9", "tiny#staging#9"):
        command(ann.root, "git", "tag", name)
        command(ann.root, "git", "push", "--quiet", "origin", f"refs/tags/{name}")
    history = shared_history(ann, RECIPE, "origin")
    assert numbers(history) == ["v1.0.0", "v1.1.0"]
    assert all("lightweight" in reason for reason in reasons(history).values())
    assert len(reasons(history)) == 3
    assert not any(version.revoked for version in history.versions)


def test_a_tag_under_the_name_of_another_gives_nothing(ann: Project) -> None:
    made = command(ann.root, "git", "rev-parse", "tiny@v1.0.0").stdout.strip()
    command(ann.root, "git", "push", "--quiet", "origin", f"{made}:refs/tags/tiny@v9.0.0")
    history = shared_history(ann, RECIPE, "origin")
    assert "made as tiny@v1.0.0" in reasons(history)["tiny@v9.0.0"]


def test_a_tag_of_no_commit_gives_nothing(ann: Project) -> None:
    tag(ann, "tiny@v9.0.0", f"statement: sha256:{digest(ann)}", "HEAD^{tree}")
    assert "not of a commit" in reasons(shared_history(ann, RECIPE, "origin"))["tiny@v9.0.0"]


def test_a_commit_without_a_statement_is_no_version(ann: Project) -> None:
    first = command(ann.root, "git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    tag(ann, "tiny@v9.0.0", f"statement: sha256:{digest(ann)}", first)
    assert "has no pipelines/tiny" in reasons(shared_history(ann, RECIPE, "origin"))["tiny@v9.0.0"]
    with pytest.raises(MissingError, match="there is none"):
        register(ann, RECIPE, first)


def test_a_moved_tag_stops_everything(ann: Project, bob: Project) -> None:
    command(ann.root, "git", "tag", "-d", "tiny@v1.0.0")
    command(ann.root, "git", "tag", "-a", "tiny@v1.0.0", "-m", "moved")
    command(ann.root, "git", "push", "--quiet", "--force", "origin", "refs/tags/tiny@v1.0.0")
    for work in (
        lambda: shared_history(bob, RECIPE, "origin"),
        lambda: promote(bob, RECIPE, None, "production"),
        lambda: roll_back(bob, RECIPE, None, "production"),
        lambda: register(bob, RECIPE, head(bob)),
    ):
        with pytest.raises(CorruptError, match=r"tiny@v1\.0\.0: was moved"):
            work()


def test_a_tag_that_the_remote_has_no_more_is_used_for_nothing(ann: Project, bob: Project) -> None:
    command(ann.root, "git", "push", "--quiet", "origin", ":refs/tags/tiny@v1.1.0")
    history = shared_history(bob, RECIPE, "origin")
    assert "taken away, or never pushed" in reasons(history)["tiny@v1.1.0"]
    with pytest.raises(CorruptError, match="not on the remote"):
        promote(bob, RECIPE, "v1.1.0", "production")
    # Its number is not given again: here lies what it was.
    assert str(register(bob, RECIPE, head(ann)).number) == "v1.2.0"


# Giving.


def test_gto_shows_what_is_given(ann: Project) -> None:
    promote(ann, RECIPE, "v1.1.0", "production")
    promote(ann, RECIPE, "v1.1.0", "staging")
    register(ann, RECIPE, head(ann), bump="patch")
    shown = json.loads(gto(ann, "show", "--json"))
    assert shown["tiny"]["version"] == "v1.1.1"
    assert shown["tiny"]["stage"]["production"] == "v1.1.0"
    roll_back(ann, RECIPE, None, "production")
    shown = json.loads(gto(ann, "show", "--json"))
    assert shown["tiny"]["stage"] == {"production": "v1.0.0", "staging": "v1.1.0"}
    assert {"tiny@v1.1.1", "tiny#production#2", "tiny#staging#3", "tiny#production#4"} <= (
        origin_tags(ann)
    )


def test_what_gto_takes_back_is_taken_back(ann: Project, bob: Project) -> None:
    promote(ann, RECIPE, "v1.1.0", "production")
    gto(ann, "deprecate", "tiny", "v1.0.0", "--push")
    history = shared_history(bob, RECIPE, "origin")
    assert history.versions[0].revoked.endswith("by Ann <ann@example.org>")
    with pytest.raises(RefusedError, match=r"tiny@v1\.0\.0 was taken back"):
        roll_back(bob, RECIPE, None, "production")
    with pytest.raises(RefusedError, match="was taken back"):
        promote(bob, RECIPE, "v1.0.0", "staging")
    gto(ann, "deprecate", "tiny", "v1.1.0", "production", "--push")
    history = shared_history(bob, RECIPE, "origin")
    assert history.had("production") == (Number(1, 0, 0),)
    gto(ann, "deprecate", "tiny", "--push")
    history = shared_history(bob, RECIPE, "origin")
    assert all(version.revoked for version in history.versions)
    with pytest.raises(UsageError, match="no version to promote"):
        promote(bob, RECIPE, None, "production")


def test_a_number_stays_taken_back_whatever_the_clock_said(ann: Project) -> None:
    env = environment() | {"GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z"}
    words = ["git", "tag", "-a", "tiny@v1.0.0!#9", "-m", "bad"]
    subprocess.run(words, cwd=ann.root, env=env, check=True)
    command(ann.root, "git", "push", "--quiet", "origin", "refs/tags/tiny@v1.0.0!#9")
    assert shared_history(ann, RECIPE, "origin").versions[0].revoked


def test_versions_that_failed_a_gate_get_no_stage(released: Released, ann: Project) -> None:
    add_result(released, ann, "bad", passed=False, stored=False)
    version = register(ann, RECIPE, head(ann))
    with pytest.raises(RefusedError, match="did not pass its gates: accuracy of cpu-fp32") as told:
        promote(ann, RECIPE, str(version.number), "production")
    assert told.value.code == 77
    assert origin_tags(ann) == {"tiny@v1.0.0", "tiny@v1.1.0", "tiny@v1.2.0", "tiny#production#1"}


def test_a_statement_of_another_recipe_gets_no_stage(released: Released, ann: Project) -> None:
    add_result(released, ann, "other", recipe="other", stored=False)
    version = register(ann, RECIPE, head(ann))
    with pytest.raises(CorruptError, match="is of recipe 'other'"):
        promote(ann, RECIPE, str(version.number), "production")


def test_going_back_twice_does_not_come_to_what_was_left(ann: Project) -> None:
    register(ann, RECIPE, head(ann))
    promote(ann, RECIPE, "v1.1.0", "production")
    promote(ann, RECIPE, None, "production")
    assert str(roll_back(ann, RECIPE, None, "production").version.number) == "v1.1.0"
    assert str(roll_back(ann, RECIPE, None, "production").version.number) == "v1.0.0"
    with pytest.raises(UsageError, match=r"no version was production before v1\.0\.0"):
        roll_back(ann, RECIPE, None, "production")
    given = roll_back(ann, RECIPE, "v1.2.0", "production")
    assert (str(given.version.number), given.tag) == ("v1.2.0", "tiny#production#6")


def test_going_back_goes_to_what_had_the_stage(ann: Project) -> None:
    with pytest.raises(UsageError, match=r"tiny@v1\.1\.0 was never production"):
        roll_back(ann, RECIPE, "v1.1.0", "production")
    with pytest.raises(MissingError, match="no version is staging"):
        roll_back(ann, RECIPE, None, "staging")


def test_promoting_again_makes_no_tag(ann: Project) -> None:
    before = origin_tags(ann)
    assert promote(ann, RECIPE, "1.0.0", "production").tag == ""
    assert origin_tags(ann) == before


def test_registering_a_commit_again_gives_the_version_that_it_is(ann: Project) -> None:
    first = register(ann, RECIPE, head(ann))
    assert register(ann, RECIPE, head(ann), bump="major") == first


def test_tags_follow_one_another_whatever_the_clock_says(
    ann: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = shared_history(ann, RECIPE, "origin").newest
    monkeypatch.setattr("slmcompile.versions.publish.time.time", lambda: newest - 1000.0)
    promote(ann, RECIPE, "v1.1.0", "production")
    history = shared_history(ann, RECIPE, "origin")
    assert history.newest == newest + 1
    assert str(history.holder("production").number) == "v1.1.0"


def test_a_recipe_that_tags_cannot_name_has_no_versions(ann: Project) -> None:
    for name in ("tiny-", "a@b", "a#b", "", "A"):
        with pytest.raises(UsageError, match="no recipe that can have versions"):
            register(ann, name, head(ann))
    for stage in ("", "a/b", "a#b", "Production", "-x"):
        with pytest.raises(UsageError, match="no stage's name"):
            promote(ann, RECIPE, None, stage)


def test_a_taggers_name_cannot_write_a_header(ann: Project) -> None:
    name = TagName(RECIPE, "register", "v5.0.0")
    who = Tagger("Eve <eve@x>\ntype tree", "e\n\nstatement: sha256:00>")
    make_tag(ann.root, name, head(ann), digest(ann), who=who, when=5, why="a\n\nb")


# Races and remotes.

_RACER = """
import sys, pathlib
from slmcompile.recipe.project import Project
from slmcompile.console.errors import SlmcompileError
from slmcompile.versions import publish, remote_tags

added = remote_tags.Remote.add
def slow(self, name, made):
    print("ready", flush=True)
    sys.stdin.readline()
    added(self, name, made)
remote_tags.Remote.add = slow
project = Project(pathlib.Path(sys.argv[1]))
try:
    if sys.argv[2] == "register":
        publish.register(project, "tiny", sys.argv[3])
    else:
        publish.promote(project, "tiny", "v1.1.0", "production")
except SlmcompileError as error:
    print(error.what, flush=True)
    sys.exit(int(error.code))
"""


@pytest.mark.parametrize("what", ["register", "promote"])
def test_of_two_at_once_one_wins_and_the_other_is_told(
    released: Released, ann: Project, bob: Project, what: str
) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(project.root), what, head(bob)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for project in (ann, bob)
    ]
    for racer in racers:  # both have seen that the tag is not there
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate()[0] for racer in racers]
    codes = [racer.returncode for racer in racers]
    assert sorted(codes) == [0, 5]
    winner = ("Ann", "Bob")[codes.index(0)]
    name = {"register": "tiny@v1.2.0", "promote": "tiny#production#2"}[what]
    assert said[codes.index(5)].startswith(f"{name}: somebody else was first: {winner} <")
    made = {
        command(place, "git", "rev-parse", f"refs/tags/{name}").stdout
        for place in (released.place / "origin.git", ann.root, bob.root)
    }
    assert len(made) == 1


def test_what_has_arrived_though_the_answer_was_lost_is_made(ann: Project, bob: Project) -> None:
    history = shared_history(ann, RECIPE, "origin")
    version = history.versions[1]
    name = TagName(RECIPE, "assign", stage="production", counter=2)
    made = make_tag(ann.root, name, version.commit, version.statement,
                    who=Tagger("Ann", "a@x"), when=history.newest + 1, why="x")  # fmt: skip
    for _ in range(2):
        Remote(ann.root, "origin").add(name, made)
    other = make_tag(bob.root, name, version.commit, version.statement,
                     who=Tagger("Bob", "b@x"), when=history.newest + 1, why="x")  # fmt: skip
    with pytest.raises(LockedError, match="somebody else was first: Ann <a@x>"):
        Remote(bob.root, "origin").add(name, other)


def test_a_remote_that_takes_no_tags_is_told(released: Released, ann: Project) -> None:
    hook = released.place / "origin.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RefusedError, match=r"does not take it: .*declined"):
        promote(ann, RECIPE, "v1.1.0", "production")
    assert "tiny#production#2" not in command(ann.root, "git", "tag").stdout


def test_a_remote_that_is_not_there_is_told(released: Released, ann: Project) -> None:
    with pytest.raises(MissingError, match="there is no git remote 'nobody'"):
        promote(ann, RECIPE, None, "production", remote="nobody")
    (released.place / "origin.git").rename(released.place / "gone.git")
    with pytest.raises(MissingError, match="origin: "):
        promote(ann, RECIPE, None, "production")


def test_a_remote_cannot_be_a_program(ann: Project, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    command(ann.root, "git", "remote", "add", "evil", f"ext::sh -c 'touch {canary}'")
    command(ann.root, "git", "config", "protocol.ext.allow", "always")
    for name in ("evil", "--upload-pack=touch", f"ext::touch {canary}"):
        with pytest.raises(SlmcompileError) as told:
            shared_history(ann, RECIPE, name)
        assert told.value.code == 69
    assert not canary.exists()


@pytest.mark.parametrize("here", [True, False])
def test_a_job_logs_in_with_its_token_where_it_is_of(
    ann: Project, monkeypatch: pytest.MonkeyPatch, *, here: bool
) -> None:
    logins: list[Mapping[str, str]] = []

    def say(root: Path, *words: str, **more: Any) -> Answer:
        if not more.get("remotely"):
            return ask(root, *words, **more)
        assert "secret-of-the-job" not in " ".join(words)
        logins.append(more["environ"])
        return Answer(128, b"", "fatal: secret-of-the-job is refused")

    monkeypatch.setattr("slmcompile.versions.remote_tags.ask", say)
    monkeypatch.setenv("GITHUB_TOKEN", "secret-of-the-job")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    host = "github.example" if here else "elsewhere.example"
    command(ann.root, "git", "remote", "set-url", "origin", f"https://{host}/owner/name")
    with pytest.raises(MissingError) as told:
        shared_history(ann, RECIPE, "origin")
    assert "secret" not in str(told.value)
    ((login),) = logins
    asked = ["git", "config", "--get-urlmatch", "http.extraheader", "https://github.example/x"]
    done = subprocess.run(asked, env=environment() | dict(login), capture_output=True, text=True)
    assert done.stdout.startswith("AUTHORIZATION: basic ") is here


def test_hooks_of_a_clone_do_not_run(ann: Project, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name in ("pre-push", "reference-transaction", "post-checkout"):
        hook = ann.root / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {canary}\n")
        hook.chmod(0o755)
    promote(ann, RECIPE, "v1.1.0", "production")
    assert not canary.exists()


# What a remote may hold.

_SOUND = {"md5": "a" * 32, "relpath": "deep/file"}


def named(data: bytes) -> str:
    return f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}.dir"


def test_a_folders_list_is_read() -> None:
    data = json.dumps([_SOUND, {**_SOUND, "relpath": "other"}]).encode()
    assert folder_list(data, named(data)) == {"deep/file": "a" * 32, "other": "a" * 32}


@pytest.mark.parametrize(
    "entries",
    [
        {"deep/file": "a" * 32},
        ["deep/file"],
        [{**_SOUND, "md5": "../../../../etc/passwd"}],
        [{**_SOUND, "md5": f"{'a' * 32}.dir"}],
        [{**_SOUND, "md5": 5}],
        [{"md5": "a" * 32}],
        *([{**_SOUND, "relpath": path}] for path in (
            "/etc/passwd", "../file", "a/../../file", "a//b", "a/", ".", "", "a\\b", "a\0b", 5)),
        [_SOUND, _SOUND],
        [_SOUND, {**_SOUND, "relpath": "deep"}],
        [_SOUND, {**_SOUND, "relpath": "deep/file/below"}],
    ],
)  # fmt: skip
def test_a_folders_list_that_leads_elsewhere_is_none(entries: object) -> None:
    data = json.dumps(entries).encode()
    with pytest.raises(CorruptError, match="not a folder's list"):
        folder_list(data, named(data))


@pytest.mark.parametrize("data", [b"", b"[", b"\xff", b"[" * 100_000])
def test_a_folders_list_that_is_no_json_is_none(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not a folder's list"):
        folder_list(data, named(data))
    with pytest.raises(CorruptError, match="its bytes are not those"):
        folder_list(data, named(b"other"))


def test_a_tag_of_any_date_can_be_shown(ann: Project, capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    version = shared_history(ann, RECIPE, "origin").versions[1]
    name = TagName(RECIPE, "assign", stage="staging", counter=9)
    made = make_tag(ann.root, name, version.commit, version.statement,
                    who=Tagger("\u202egnA", "a@x"), when=10**14, why="x")  # fmt: skip
    Remote(ann.root, "origin").add(name, made)
    tag(ann, "tiny@v8.0.0", "\x1b[2J")
    monkeypatch.chdir(ann.root)
    assert main(["versions", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "staging" in shown
    assert "\x1b" not in shown
    assert main(["versions", "--offline", "--json"]) == 0
    (recipe,) = json.loads(capsys.readouterr().out)["recipes"]
    assert recipe["assignments"][-1]["when"].startswith("9999-12-31")
    assert promote(ann, RECIPE, "v1.0.0", "staging").tag == "tiny#staging#10"
