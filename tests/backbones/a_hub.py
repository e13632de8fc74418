"""A hub of one's own: the few answers of huggingface.co that fetching a model asks for, on this machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, names of the files that were asked for): serves ``folder`` as the repository tiny/model."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/tiny/model"):
                files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
                content = {"id": "tiny/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                self._send(json.dumps(content).encode(), "application/json", with_body=with_body)
                return
            found = re.fullmatch(r"/tiny/model/resolve/[^/]+/(.+)", path)
            name = found[1] if found else ""
            if not (folder / name).is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if with_body:
                fetched.append(name)
            self._send((folder / name).read_bytes(), "application/octet-stream", with_body=with_body)

        def _send(self, body: bytes, kind: str, *, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
