"""What the tests of models share: a cache of their own, and a file server that can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SECONDS = 60.0


@dataclass
class FileServer:
    """Serves `content` at every path, in the way that the fields say, and keeps the requests.

    Attributes:
        status: another status than 200, without the content.
        location: redirect there.
        cut_after: close the connection after so many bytes of the content.
        etag: the version mark; None sends none.
        length: whether the length is told.
        ranges: the Range header of each request, None where it had none.
        asked: released at each request.
        go_on: the content is sent when this is set.
    """

    content: bytes = b""
    status: int = 200
    location: str = ""
    cut_after: int | None = None
    etag: str | None = '"one"'
    length: bool = True
    chunked: bool = False
    wrong_part: bool = False
    ranges: list[str | None] = field(default_factory=list)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __post_init__(self) -> None:
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/file.pt"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def do_GET(self) -> None:
        files = self.files
        asked = self.headers.get("Range")
        files.ranges.append(asked)
        files.asked.release()
        self.close_connection = True
        start = 0
        if asked is not None and self.headers.get("If-Range") == files.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if files.status != 200 or files.location or start >= len(files.content) > 0:
            self.send_response(files.status if start == 0 else 416)
            if files.location:
                self.send_header("Location", files.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            first = start + 1 if files.wrong_part else start
            last = len(files.content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{last + 1}")
        if files.etag is not None:
            self.send_header("ETag", files.etag)
        if files.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif files.length:
            self.send_header("Content-Length", str(len(files.content) - start))
        self.end_headers()
        files.go_on.wait(SECONDS)
        body = files.content[start : files.cut_after]
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if files.chunked else body)
        if files.chunked and files.cut_after is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A file server of this machine, good until told otherwise."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = FileServer()
    handler = type("Handler", (_Handler,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        files.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield files
        files.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pose_node"
