"""A server on loopback that answers which commit a hub repository's branches and tags are at."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse


class Hub(ThreadingHTTPServer):
    """Commits by (``models`` or ``datasets``, repository, revision)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[tuple[str, str, str], str] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def environment(self) -> dict[str, str]:
        """An environment in which the hub is this server."""
        return os.environ | {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.server.asked.append(path)
        _, _, kind, owner, name, *rest = path.split("/")
        key = (kind, f"{owner}/{name}", rest[1] if len(rest) > 1 else "main")
        sha = self.server.commits.get(key)
        body = json.dumps({"id": key[1], "sha": sha, "siblings": []} if sha else {}).encode()
        self.send_response(200 if sha else 404)
        if not sha:
            known = any(key[:2] == other[:2] for other in self.server.commits)
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub for a while."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
