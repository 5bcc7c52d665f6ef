"""Results in an S3 bucket, by credentials of the environment alone: what a folder keeps it keeps.

The bucket is moto's, served over HTTP in this process, and lets only those in who have its key.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmcompile.ci.checkpoints import Checkpoints
from slmcompile.ci.reuse import name_of, read_record, write_record
from slmcompile.ci.store import LARGEST, MAIN, PULL_REQUESTS, Store
from slmcompile.console.errors import CorruptError, Exit, MissingError
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache
from slmcompile.versions.publish import register
from tests.projects import command, commit, slmcompile
from tests.released import RECIPE, Released, add_result, head, make_origin

pytest.importorskip("dvc_s3", reason="remotes in S3 need `pip install 'slmcompile[s3]'`")
moto = pytest.importorskip(
    "moto.moto_server.threaded_moto_server",
    reason="the S3 of the test is moto's: `pip install 'moto[s3]' flask flask-cors`",
)

BUCKET = "bucket"
SECRET = "AWS_SECRET_ACCESS_KEY"
WRONG = "a-secret-that-nobody-gave-out-0123456789"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 that knows nobody yet."""
    served = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture(scope="module")
def key(server: str) -> dict[str, str]:
    """Makes the bucket, and the one key that opens it from then on."""
    import boto3
    import requests

    def client(name: str) -> Any:
        anybody = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        return boto3.client(name, endpoint_url=server, region_name="us-east-1", **anybody)

    client("s3").create_bucket(Bucket=BUCKET)
    iam = client("iam")
    iam.create_user(UserName="job")
    iam.put_user_policy(UserName="job", PolicyName="s3", PolicyDocument=json.dumps(POLICY))
    made = iam.create_access_key(UserName="job")["AccessKey"]
    requests.post(f"{server}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
    return {
        "AWS_ENDPOINT_URL": server,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        SECRET: made["SecretAccessKey"],
    }


@pytest.fixture(autouse=True)
def job(key: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of a job, which no file of the machine's user adds to."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in key.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose two remotes are in the bucket, in a folder of this test's."""
    root = tmp_path / "project"
    (root / "recipes").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(_config(tmp_path.name))
    command(root, "git", "init", "-q")
    return Project(root)


def _config(folder: str) -> str:
    remotes = (
        (MAIN, f"s3://{BUCKET}/{folder}/main"),
        (PULL_REQUESTS, f"s3://{BUCKET}/{folder}/pr"),
    )
    told = "".join(f"['remote \"{name}\"']\n    url = {url}\n" for name, url in remotes)
    return f"[core]\n    analytics = false\n    remote = {MAIN}\n{told}"


def _cached(project: Project, **files: str) -> str:
    """An object of DVC's cache: a folder with some files."""
    folder = project.root / "x"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    command(project.root, "dvc", "add", "-q", "x")
    (found,) = re.findall(r"md5: (\S+)", (project.root / "x.dvc").read_text())
    return str(found)


@pytest.mark.parametrize(("remote", "below"), [(MAIN, ""), (PULL_REQUESTS, "7")])
def test_small_files_are_written_read_listed_and_removed(
    project: Project, remote: str, below: str, tmp_path: Path
) -> None:
    store = Store(project, remote, below)
    assert store.read("work/a.json") is None
    assert store.names("work") == ()
    store.write("work/a.json", b"{}")
    store.write("work/a.json", b'{"again": 1}')
    (tmp_path / "big").write_bytes(b"0" * (LARGEST + 1))
    store.put(tmp_path / "big", "work/deep/big")
    other = Store(project, remote, below)  # as the next job opens it
    assert other.read("work/a.json") == b'{"again": 1}'
    assert other.names("work") == ("a.json", "deep")
    with pytest.raises(CorruptError, match="larger than"):
        other.read("work/deep/big")
    assert other.get("work/deep/big", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == LARGEST + 1
    assert not other.get("work/deep/none", tmp_path / "none")
    other.remove("work")
    other.remove("work")
    assert Store(project, remote, below).names("work") == ()
    assert store.read("work/a.json") is None


def test_objects_come_back_from_where_they_were_pushed_and_from_nowhere_else(
    project: Project,
) -> None:
    name = _cached(project, a="1", b="2")
    own, main = Store(project, PULL_REQUESTS, "7"), Store(project, MAIN)
    own.push([name])
    command(project.root, "rm", "-rf", ".dvc/cache")
    assert Store(project, PULL_REQUESTS, "8").pull([name]) == (name,)
    assert main.pull([name]) == (name,)
    assert own.pull([name]) == ()
    main.push([name])
    command(project.root, "rm", "-rf", ".dvc/cache")
    assert main.pull([name]) == ()
    assert set(Cache(project).folder(name) or {}) == {"a", "b"}
    with pytest.raises(MissingError, match="not taken"):
        own.push(["0" * 32])


def test_the_bytes_lie_where_dvc_itself_finds_them(project: Project) -> None:
    name = _cached(project, a="1")
    Store(project, MAIN).push([name])
    command(project.root, "rm", "-rf", ".dvc/cache", "x")
    command(project.root, "dvc", "pull", "-q")
    assert (project.root / "x/a").read_text() == "1"


def test_finished_work_and_checkpoints_go_from_one_machine_to_the_next(
    project: Project, tmp_path: Path
) -> None:
    own = Store(project, PULL_REQUESTS, "7")
    work = "0123456789abcdef"
    folder = project.scratch / "scratch" / work / "step-00000001"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "manifest.json").write_bytes(b"{}")
    Checkpoints(project, own).send()
    name = _cached(project, a="1")
    write_record(own, "a" * 64, {"object": name}, "b" * 64)
    command(tmp_path, "cp", "-r", str(project.root), "next")
    there = Project(tmp_path / "next")
    command(there.root, "rm", "-rf", ".slmcompile", ".dvc/cache")
    again, said = Store(there, PULL_REQUESTS, "7"), list[str]()
    Checkpoints(there, again).bring(said.append)
    found = there.scratch / "scratch" / work / "step-00000001/weights.safetensors"
    assert found.read_bytes() == b"weights"
    record = read_record(again, "a" * 64, said.append)
    assert record is not None
    assert (record["object"], record["manifest"]) == (name, "b" * 64)
    again.write(name_of("a" * 64), b'{"object": "../../etc/passwd"}')
    assert read_record(own, "a" * 64, said.append) is None
    assert [line for line in said if "not a record" in line] == said


@pytest.mark.parametrize("given", [WRONG, ""])
def test_without_the_right_key_it_ends_in_a_line_that_does_not_tell_it(
    project: Project, given: str, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _cached(project, a="1")
    monkeypatch.setenv(SECRET, given)
    if not given:
        monkeypatch.delenv(SECRET)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for call in (
        lambda store: store.read("work/a.json"),
        lambda store: store.write("work/a.json", b"{}"),
        lambda store: store.names("work"),
        lambda store: store.remove("work"),
        lambda store: store.push([name]),
        lambda store: store.pull(["0" * 32]),
    ):
        with pytest.raises(MissingError) as error:
            call(Store(project, PULL_REQUESTS, "7"))
        told = f"{error.value.what} {error.value.mend}"
        assert error.value.code == Exit.MISSING
        assert "\n" not in told
        assert "remote pr/7" in told
        assert not [secret for secret in (WRONG, key[SECRET]) if secret in told]


@pytest.fixture
def released(tmp_path: Path) -> Released:
    """A version whose objects lie in the bucket and nowhere else."""
    import boto3

    made = make_origin(tmp_path / "released")
    ann = made.clone("ann")
    (ann.root / ".dvc/config").write_text(_config(tmp_path.name))
    commit(ann.root, "to S3")
    add_result(made, ann, "good")
    register(ann, RECIPE, head(ann))
    bucket = boto3.client("s3")
    for path in made.store.rglob("*"):
        if path.is_file() and "files/md5" in path.as_posix():
            shown = path.relative_to(made.store).as_posix()
            bucket.upload_file(str(path), BUCKET, f"{tmp_path.name}/main/{shown}")
    command(made.place, "rm", "-rf", "store")
    return made


def test_a_version_is_fetched_from_the_bucket(released: Released) -> None:
    bob = released.clone("bob")
    slmcompile(bob.root, "fetch", "tiny@v1.0.0")
    for name in ("train", "export-cpu-fp32"):
        there = bob.root / f"fetched/tiny-v1.0.0/{name}/weights.bin"
        assert there.read_text() == f"{name} of good\n" * 50


def test_a_fetch_without_the_right_key_leaves_nothing(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, WRONG)
    bob = released.clone("bob")
    done = slmcompile(bob.root, "fetch", "tiny@v1.0.0", check=False)
    assert done.returncode == Exit.MISSING
    errors = [line for line in done.stderr.splitlines() if not line.startswith("fetching")]
    assert [line.partition(":")[0] for line in errors] == ["error", "  mend"]
    assert WRONG not in done.stderr
    assert not list((bob.root / "fetched").glob("tiny*"))
