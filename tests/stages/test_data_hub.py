"""Rows from a hub: a server on loopback that speaks as much of the hub's API as is needed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import pytest

REVISION = "a" * 40
ROWS = [{"text": f"row {n}", "answer": "x"} for n in range(50)]

PROGRAM = """
import json, sys
from slmcompile.data.hub import read_split
from slmcompile.console.errors import SlmcompileError
from slmcompile.sources.of_data.hub import HubData
source = HubData.model_validate_json(sys.argv[1])
for name, slice_ in source.splits.items():
    try:
        print(json.dumps([dict(row.values) for row in read_split(source, slice_)]))
    except SlmcompileError as error:
        print(json.dumps({"code": error.code, "what": error.what}))
"""


class Hub(ThreadingHTTPServer):
    """One data set, ``owner/name``, at one commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        lines = "".join(json.dumps(row) + "\n" for row in ROWS)
        self.files = {"train.jsonl": lines.encode()}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def entries(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in self.files.items()
        ]


class Handler(BaseHTTPRequestHandler):
    """Answers for ``Hub``."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None: ...

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        files = f"/datasets/owner/name/resolve/{REVISION}/"
        if path.startswith(f"/api/datasets/owner/name/tree/{REVISION}"):
            self.answer_json(self.server.entries())
        elif path == f"/api/datasets/owner/name/revision/{REVISION}":
            siblings = [{"rfilename": name} for name in self.server.files]
            self.answer_json({"id": "owner/name", "sha": REVISION, "siblings": siblings})
        elif path.startswith(files) and path.removeprefix(files) in self.server.files:
            data = self.server.files[path.removeprefix(files)]
            tag = f'"{hashlib.sha1(data).hexdigest()}"'
            self.answer(200, data, ETag=tag, X_Repo_Commit=REVISION)
        else:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=REVISION)

    do_HEAD = do_GET  # noqa: N815 - the server looks methods up by this name

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wanted = parse_qs(body).get("paths", [])
        self.answer_json([entry for entry in self.server.entries() if entry["path"] in wanted])


def serving() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


hub = pytest.fixture(serving, name="hub")
elsewhere = pytest.fixture(serving, name="elsewhere")


def read(hub: Hub, tmp_path: Path, **splits: str) -> list[Any]:
    source = {"type": "hub", "repo_id": "owner/name", "revision": REVISION, "splits": splits}
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(source)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_slices_of_a_split_are_read_at_the_commit(hub: Hub, tmp_path: Path) -> None:
    train, validation, test = read(
        hub, tmp_path, train="train[:5]", validation="train[10%:20%]", test="nowhere"
    )
    assert train == ROWS[:5]
    assert validation == ROWS[5:10]
    assert test["code"] == 65
    assert test["what"].startswith('owner/name@aaaaaaaaaaaa nowhere: Unknown split "nowhere"')


@pytest.mark.parametrize("where", ["local file", "address"])
def test_a_readme_cannot_make_the_stage_read_other_files(
    hub: Hub, elsewhere: Hub, tmp_path: Path, where: str
) -> None:
    local = tmp_path / "train.jsonl"
    local.write_bytes(hub.files["train.jsonl"])
    address = f"{elsewhere.url}/datasets/owner/name/resolve/{REVISION}/train.jsonl"
    files = str(local) if where == "local file" else address
    readme = f"---\nconfigs:\n- config_name: default\n  data_files: {files}\n---\n"
    hub.files["README.md"] = readme.encode()
    (found,) = read(hub, tmp_path, train="train")
    assert isinstance(found, dict), "rows were read"
    assert found["code"] in {65, 77}
    assert "README" in found["what"]
