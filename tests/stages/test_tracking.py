"""Trackers record what they are told, keep secrets out, and never hurt a run."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.redact import HIDDEN, redact, secrets_of
from slmcompile.files.artifact import sha256_file, write_manifest
from slmcompile.recipe.schema import Track
from slmcompile.tracking import Tracker, open_tracker, wandb_tracker
from slmcompile.tracking.guarded import GuardedTracker
from slmcompile.tracking.nothing import NoTracker

SECRET = "planted-secret-value-0123456789"
REMOTE = "git@git.example:private-team/private-model.git"
CONFIG = {"train": {"learning_rate": 0.001, "optim": "adamw_torch"}, "note": f"key {SECRET}"}

# A tracked stage in a process of its own: wandb keeps state in its process and in atexit hooks.
STAGE = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from slmcompile.recipe.schema import Track
    from slmcompile.tracking import open_tracker

    settings, config, folder, manifest = sys.argv[1:]
    tracker = open_tracker(
        Track.model_validate_json(settings),
        run_name="demo/train", group="plan-0123", job_type="train",
        config=json.loads(config), folder=Path(folder))
    for step in range(5, 30, 5):
        tracker.log(step, {"train/loss": 1.0 / step})
    tracker.table("predictions", ["id", "answer"], [[1, "lights on"], [2, None], ["x", {"a": 1}]])
    tracker.summary({"exact_match": 0.75, "cpu": {"tokens_per_second": 41.5}})
    tracker.artifact("demo-adapter", "adapter", Path(manifest))
    tracker.finish()
    raise SystemExit(7)
    """
)


def run_stage(
    tmp_path: Path, settings: Mapping[str, Any], **environ: str
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Runs ``STAGE`` in a git checkout with a remote; returns the process and its seconds."""
    checkout = tmp_path / "checkout"
    (checkout / "artifact").mkdir(parents=True)
    (checkout / "artifact" / "weights").write_bytes(b"\0" * 64)
    write_manifest(checkout / "artifact", "adapter", {})
    subprocess.run(["git", "init", "-q", "."], cwd=checkout, check=True)
    subprocess.run(["git", "remote", "add", "origin", REMOTE], cwd=checkout, check=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    home = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [json.dumps(dict(settings)), json.dumps(CONFIG)]
    places = [str(tmp_path / "scratch"), "artifact/manifest.json"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STAGE, *arguments, *places],
        cwd=checkout,
        env=clean | home | {"FAKE_TOKEN": SECRET} | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done, time.monotonic() - started


def wandb_records(path: Path) -> Iterator[Any]:
    """Records of an offline run file: a LevelDB log of 32 KiB blocks after a 7-byte header."""
    from wandb.proto import wandb_internal_pb2

    block, header = 32768, 7
    data = path.read_bytes()
    assert data.startswith(b":W&B")
    at, parts = header, b""
    while at + header <= len(data):
        if block - at % block < header:  # too short for a record: padding
            at += block - at % block
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + header : at + header + length]
        at += header + length
        if kind in {1, 4}:  # whole, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def offline_run(scratch: Path) -> Path:
    """The one offline run folder."""
    (folder,) = (scratch / "wandb").glob("offline-run-*")
    return folder


def _key(item: Any) -> str:
    return ".".join([item.key] if item.key else item.nested_key)


def history_of(records: list[Any]) -> list[dict[str, Any]]:
    """History rows of an offline run as key → value."""
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append(
                {
                    ".".join([i.key] if i.key else i.nested_key): json.loads(i.value_json)
                    for i in items
                }
            )
    return rows


def summary_of(records: list[Any]) -> dict[str, Any]:
    """The last value of each summary key."""
    found: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                found[_key(item)] = json.loads(item.value_json)
    return found


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """One offline W&B run: its folder and the finished process."""
    pytest.importorskip("wandb")
    tmp_path = tmp_path_factory.mktemp("offline")
    settings = {"type": "wandb", "project": "demo-project", "tags": ["a tag"]}
    done, _ = run_stage(tmp_path, settings)
    return tmp_path, done


def test_an_offline_run_holds_config_curve_table_and_summary(offline: tuple[Path, Any]) -> None:
    """What was tracked can be read back from the file that ``wandb sync`` uploads."""
    run = offline_run(offline[0] / "scratch")
    (file,) = run.glob("*.wandb")
    records = list(wandb_records(file))
    (started,) = [r.run for r in records if r.WhichOneof("record_type") == "run"][:1]
    assert (started.display_name, started.run_group) == ("demo/train", "plan-0123")
    assert (started.job_type, started.project) == ("train", "demo-project")
    assert list(started.tags) == ["a tag"]
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert config["train"] == CONFIG["train"]
    curve = {r["_step"]: r["train/loss"] for r in history_of(records) if "train/loss" in r}
    assert curve == {step: pytest.approx(1.0 / step) for step in range(5, 30, 5)}
    (table,) = (run / "files" / "media" / "table").glob("predictions*.json")
    shown = json.loads(table.read_text(encoding="utf-8"))
    assert shown["columns"] == ["id", "answer"]
    assert shown["data"] == [[1, "lights on"], [2, None], ["x", '{"a": 1}']]
    summary = summary_of(records)
    assert summary["exact_match"] == 0.75
    manifest = offline[0] / "checkout" / "artifact" / "manifest.json"
    assert summary["artifact/demo-adapter"] == sha256_file(manifest)


def test_tracking_says_nothing_and_leaves_the_exit_code(offline: tuple[Path, Any]) -> None:
    """The stage's own exit code and an empty terminal."""
    assert offline[1].returncode == 7
    assert offline[1].stdout == ""
    assert offline[1].stderr == ""


def test_no_secret_git_remote_host_or_path_is_recorded(offline: tuple[Path, Any]) -> None:
    """Nothing of the machine is in what would be uploaded, and no secret in any file at all."""
    scratch = offline[0] / "scratch"
    everything = [path for path in scratch.rglob("*") if path.is_file()]
    assert everything
    for path in everything:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert b"private-team" not in content, path
    (file,) = offline_run(scratch).glob("*.wandb")
    content = file.read_bytes()
    assert HIDDEN.encode() in content
    for private in (socket.gethostname(), sys.executable, "SystemExit(7)"):
        # A short name is part of some random id: look for it as protobuf writes it, length first.
        length = bytes([len(private)]) if len(private) < 6 else b""
        assert length + private.encode() not in content, private
    uploaded = {p.name for p in (offline_run(scratch) / "files").rglob("*") if p.is_file()}
    assert not uploaded & {"wandb-metadata.json", "requirements.txt", "diff.patch", "output.log"}


def test_nothing_is_written_outside_the_scratch_folder(offline: tuple[Path, Any]) -> None:
    """Not into the user's home and not into the checkout."""
    home = offline[0] / "home"
    assert not [path for path in home.rglob("*") if path.is_file()]
    assert {path.name for path in (offline[0] / "checkout").iterdir()} == {".git", "artifact"}


def test_neither_the_shell_nor_a_settings_file_says_where_a_run_goes(tmp_path: Path) -> None:
    """Project, run, folder and server are not theirs to choose; what did not count is named."""
    pytest.importorskip("wandb")
    for folder in (tmp_path / "checkout" / "wandb", tmp_path / "home" / ".config" / "wandb"):
        folder.mkdir(parents=True)
        text = "[default]\nproject = theirs\nentity = theirs\nbase_url = http://127.0.0.1:9\n"
        (folder / "settings").write_text(text, encoding="utf-8")
    shell = {
        "WANDB_DIR": "/proc/nope",
        "WANDB_ENTITY": "other",
        "WANDB_MODE": "online",
        "WANDB_PROJECT": "other",
        "WANDB_RESUME": "must",
        "WANDB_RUN_ID": "abcdef",
        "WANDB_TAGS": "theirs",
    }
    settings = {"type": "wandb", "project": "demo-project", "tags": ["a tag"]}
    done, _ = run_stage(tmp_path, settings, **shell)
    assert (done.returncode, done.stdout) == (7, "")
    ignored = ", ".join(sorted(shell.keys() - {"WANDB_MODE"}))
    assert done.stderr == f"note: W&B: {ignored} of the shell do not count; the recipe does\n"
    run = offline_run(tmp_path / "scratch")
    assert not run.name.endswith("abcdef")
    (file,) = run.glob("*.wandb")
    (started,) = [r.run for r in wandb_records(file) if r.WhichOneof("record_type") == "run"][:1]
    assert (started.project, started.entity) == ("demo-project", "")
    assert list(started.tags) == ["a tag"]
    everything = b"".join(p.read_bytes() for p in tmp_path.glob("scratch/**/*") if p.is_file())
    assert b"127.0.0.1:9" not in everything
    assert [path.name for path in (tmp_path / "checkout" / "wandb").iterdir()] == ["settings"]


def test_a_key_in_netrc_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``wandb login`` leaves it; for its own server only."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not wandb_tracker._has_key("https://wandb.example")
    (tmp_path / "netrc").write_text("machine wandb.example login user password key\n")
    assert wandb_tracker._has_key("https://wandb.example")
    assert not wandb_tracker._has_key("https://other.example")
    (tmp_path / "netrc").write_text("machine")
    assert not wandb_tracker._has_key("https://wandb.example")


@pytest.mark.parametrize(
    ("shell", "asked", "says"),
    [
        ({"WANDB_MODE": "disabled"}, "online", "switched off"),
        ({"WANDB_DISABLED": "true"}, "offline", "switched off"),
        ({"WANDB_MODE": "offline"}, "online", "recorded offline"),
        ({"WANDB_MODE": "dryrun"}, "online", "recorded offline"),
        ({"WANDB_MODE": "online"}, "offline", ""),
        ({"WANDB_DISABLED": "false"}, "offline", ""),
    ],
)
def test_the_environment_makes_a_tracker_less_online_and_never_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: Mapping[str, str],
    asked: str,
    says: str,
) -> None:
    opened: list[str] = []

    def open_(settings: Track, *_: Any) -> NoTracker:
        opened.append(settings.mode)
        return NoTracker()

    monkeypatch.setattr(wandb_tracker.WandbTracker, "open", open_)
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    open_tracker(
        Track.model_validate({"type": "wandb", "mode": asked}),
        run_name="r", group="g", job_type="train", config={}, folder=tmp_path, warn=said.append,
    ).finish()  # fmt: skip
    assert opened == ([] if says == "switched off" else ["offline"])
    assert len(said) == (1 if says else 0)
    assert says in "".join(said)


def test_online_without_a_server_falls_back_to_offline(tmp_path: Path) -> None:
    """A closed port costs one warning and a few seconds; the run is there to be synced."""
    pytest.importorskip("wandb")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    key = "0123456789" * 4
    url = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": key}
    done, seconds = run_stage(tmp_path, {"type": "wandb", "mode": "online"}, **url)
    assert done.returncode == 7
    assert seconds < 30
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "recorded offline" in done.stderr
    (file,) = offline_run(tmp_path / "scratch").glob("*.wandb")
    assert len([r for r in history_of(list(wandb_records(file))) if "train/loss" in r]) == 5
    written = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert not [path for path in written if key.encode() in path.read_bytes()]


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """It accepts connections and says nothing; the stage ends within a bounded time."""
    pytest.importorskip("wandb")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        key = "a" * 40
        done, seconds = run_stage(
            tmp_path, {"type": "wandb", "mode": "online"}, WANDB_BASE_URL=url, WANDB_API_KEY=key
        )
    assert kept, "the test's server was never asked"
    assert done.returncode == 7
    assert seconds < 40
    assert len(done.stderr.splitlines()) <= 2


def test_online_without_a_key_asks_nothing_and_goes_offline(tmp_path: Path) -> None:
    """W&B's own question at a terminal would hang a run."""
    pytest.importorskip("wandb")
    done, _ = run_stage(tmp_path, {"type": "wandb", "mode": "online"})
    assert done.returncode == 7
    assert "WANDB_API_KEY is not set" in done.stderr
    assert offline_run(tmp_path / "scratch").is_dir()


def test_tensorboard_events_can_be_read_back(tmp_path: Path) -> None:
    """Scalars, text and the artifact's hash are in the event file."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "adapter").mkdir()
    write_manifest(tmp_path / "adapter", "adapter", {})
    manifest = tmp_path / "adapter" / "manifest.json"
    tracker = open_tracker(
        Track(type="tensorboard"),
        run_name="demo/train",
        group="plan-0123",
        job_type="train",
        config={"seed": 17},
        folder=tmp_path / "events",
    )
    for step in (5, 10):
        tracker.log(step, {"train/loss": 1.0 / step})
    tracker.table("predictions", ["id", "answer"], [[1, "lights on"]])
    tracker.summary({"exact_match": 0.75, "cpu": {"tokens_per_second": 41.5}})
    tracker.artifact("demo-adapter", "adapter", manifest)
    _finish(tracker)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    scalars = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert scalars == [(5, pytest.approx(0.2)), (10, pytest.approx(0.1))]
    (quality,) = events.Scalars("summary/cpu/tokens_per_second")
    assert quality.value == 41.5
    texts = {
        name: events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("config", "run", "predictions", "artifact/demo-adapter")
    }
    assert '"seed": 17' in texts["config"]
    assert "plan-0123" in texts["run"]
    assert "lights on" in texts["predictions"]
    assert sha256_file(manifest) in texts["artifact/demo-adapter"]


def _finish(tracker: Tracker) -> None:
    """Ends a run whose tracker may still be importing torch."""
    if isinstance(tracker, GuardedTracker):
        tracker._finish_seconds = 60.0
    tracker.finish()


class Slow(NoTracker):
    """A tracker whose every call takes a minute."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Blocks."""
        time.sleep(60)


class Broken(NoTracker):
    """A tracker that tries to end the process."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Raises what no ``except Exception`` catches."""
        sys.exit(f"disk full, key {SECRET}")


def test_a_slow_tracker_does_not_slow_the_run() -> None:
    """Ten thousand points cost the caller less than a second, and the end is bounded."""
    lines: list[str] = []
    tracker = GuardedTracker(Slow, "demo", lines.append, finish_seconds=0.5)
    started = time.monotonic()
    for step in range(10_000):
        tracker.log(step, {"loss": 1.0})
    tracker.finish()
    assert time.monotonic() - started < 5
    assert len(lines) == 1


def test_a_broken_tracker_costs_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning without the secret, no exception, and the end does not wait."""
    monkeypatch.setenv("FAKE_TOKEN", SECRET)
    lines: list[str] = []
    tracker = GuardedTracker(Broken, "demo", lines.append)
    started = time.monotonic()
    for step in range(100):
        tracker.log(step, {"loss": 1.0})
    tracker.finish()
    assert time.monotonic() - started < 5
    assert len(lines) == 1
    assert "disk full" in lines[0]
    assert SECRET not in lines[0]


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "a" * 34,
        "ghp_" + "B" * 36,
        "AKIA" + "C" * 16,
        "https://user:hunter2@host.example/path",
        f"prefix {SECRET} suffix",
    ],
)
def test_secrets_are_hidden_at_any_depth(text: str) -> None:
    """By shape or by the value of a secret-looking variable."""
    secrets = secrets_of({"FAKE_TOKEN": SECRET, "KEYBOARD": "harmless-layout", "API_KEY": "1"})
    assert secrets == (SECRET,)
    (hidden,) = redact({"outer": [{"inner": text}]}, secrets)["outer"]
    assert HIDDEN in hidden["inner"]
    for secret in (text, SECRET, "hunter2"):
        assert secret not in hidden["inner"]


def test_hashes_and_numbers_are_not_hidden() -> None:
    """A commit and a content hash are no secrets."""
    value = {"revision": "0" * 39 + "a", "sha256": "ab" * 32, "seed": 3, "on": True, "none": None}
    assert redact(value, ()) == value
