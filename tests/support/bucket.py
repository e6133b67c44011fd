"""A directory store to be read over HTTP as an S3 bucket, where single objects can be made to take their time."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from strongroom.worker.spec import StorageSpec


class Bucket:
    """The objects below ``top``. Whoever gets the object ``late`` waits until the end."""

    def __init__(self, top: Path, late: str = "") -> None:
        self.asked = threading.Event()
        """Somebody waits for it."""
        self._over = threading.Event()
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def log_message(self, *_: object) -> None:
                return

            def _answer(self, *, body: bool) -> None:
                key = self.path.removeprefix("/bucket/").partition("?")[0]
                if body and key == late:
                    bucket.asked.set()
                    bucket._over.wait()
                try:
                    data = (top / key).read_bytes()
                except OSError:
                    data, status = b"", 404
                else:
                    status = 200
                size = len(data)
                if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                    start, stop = int(found[1]), min(size, int(found[2] or size - 1) + 1)
                    data, status = data[start:stop], 206
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", '"of it"')
                self.send_header("Last-Modified", formatdate(usegmt=True))
                self.end_headers()
                if body:
                    with contextlib.suppress(OSError):
                        self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.storage = StorageSpec(
            driver="s3",
            bucket="bucket",
            endpoint=f"http://127.0.0.1:{self._server.server_port}",
            access_key_id="anybody",
            secret_access_key="anything",  # type: ignore[arg-type]
        )

    def close(self) -> None:
        """Let go of those who wait, and end."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def bucket(top: Path, late: str = "") -> Iterator[Bucket]:
    """A Bucket for a while."""
    it = Bucket(top, late)
    try:
        yield it
    finally:
        it.close()
