"""python serve.py [PORT]: this folder for browsers of this machine, isolated, so with threads."""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SimpleHTTPRequestHandler.extensions_map |= {".mjs": "text/javascript", ".wasm": "application/wasm"}


class Isolated(SimpleHTTPRequestHandler):
    """Files, with the two headers that give a page memory which threads share."""

    def end_headers(self) -> None:
        """Behind the file's own."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


handler = partial(Isolated, directory=str(Path(__file__).resolve().parent))
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8000), handler)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
