"""Chromium without a window, a server of one folder, and a page of the test's own in it.

The server is the browser's proxy too, so that a request to any other host is seen. Knows nothing of
what the folder is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
)
_ALONE = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
)
_LONGEST = 300
"""Seconds that a page may take."""
_MAKER = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")
_FRAME = """<!doctype html><meta charset="utf-8">
<iframe src="index.html%s" style="width:900px;height:900px"></iframe>
<script type="module">
const tell = (value) => fetch("told", { method: "POST", body: JSON.stringify(value) });
const until = async (found) => {
  for (;;) {
    const value = found();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
try {
  const frame = document.querySelector("iframe");
  const page = (id) => frame.contentDocument?.getElementById(id);
  await tell({ told: await (async () => { %s })() });
} catch (error) {
  await tell({ error: String(error.stack ?? error) });
}
</script>
"""


@dataclass
class Served:
    """A folder behind a server of files.

    Attributes:
        url: of the folder.
        elsewhere: what was asked of other hosts.
        paths: files that were asked for.
        pages: pages of a test's own by their paths.
        told: what those have sent.
    """

    url: str
    elsewhere: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    told: Queue[Any] = field(default_factory=Queue)

    def run(
        self, script: str, profile: Path, *flags: str, query: str = "", limit: float = 300
    ) -> Any:
        """What a script returns that runs beside the folder's page, whose elements ``page`` finds.

        Raises:
            AssertionError: it fails, or says nothing.
        """
        self.pages["/test.html"] = _FRAME % (query, script)
        assert CHROMIUM is not None
        graphics = [] if flags else ["--disable-gpu"]
        words = [
            *_ALONE,
            *graphics,
            *flags,
            f"--user-data-dir={profile}",
            f"--proxy-server={self.url}",
        ]
        process = subprocess.Popen(
            [CHROMIUM, *words, f"{self.url}/test.html"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            said = self.told.get(timeout=_LONGEST)
        except Empty as error:
            raise AssertionError(f"the page says nothing; asked for: {self.paths}") from error
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert "told" in said, said
        return said["told"]


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *given: Any, served: Served, headers: dict[str, str], folder: Path) -> None:
        self._served, self._more = served, headers
        super().__init__(*given, directory=str(folder))

    def _refuse(self) -> None:
        """Of another host; what the browser asks of its maker is not the page's."""
        host = urlsplit(self.path).hostname if "://" in self.path else self.path.partition(":")[0]
        if not str(host).endswith(_MAKER):
            self._served.elsewhere.append(self.path)
        self.send_error(502)

    def do_GET(self) -> None:
        if not self.path.startswith("/"):
            self._refuse()
            return
        self._served.paths.append(self.path)
        page = self._served.pages.get(self.path)
        if page is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode("utf-8"))

    def do_CONNECT(self) -> None:
        self._refuse()

    def do_POST(self) -> None:
        if self.path != "/told":
            self._refuse()
            return
        told = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self._served.told.put(json.loads(told))

    def end_headers(self) -> None:
        for name, value in self._more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_words: Any) -> None:
        pass


@contextmanager
def serving(folder: Path, *, isolated: bool) -> Iterator[Served]:
    """Serves a folder, with or without the headers that isolate a page."""
    served = Served("")
    headers = ISOLATED if isolated else {}
    handler = partial(_Handler, served=served, headers=headers, folder=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
