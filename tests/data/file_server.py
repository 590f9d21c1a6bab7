"""A real HTTP server on 127.0.0.1 that serves bytes, and misbehaves as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """A file on the server; `cuts`: bytes that one answer after the other sends before it ends."""

    content: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    if_range: bool = True  # compare If-Range with the ETag
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)  # status codes to answer with first
    redirect: str | None = None
    encoding: str | None = None
    length: str = "told"  # or "chunked" or "untold"
    stop: int | None = None  # send so many bytes, then nothing until the server is closed


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []  # path and Range of every request
        self.closing = threading.Event()

    def add(self, path: str, content: bytes, **options: Any) -> str:
        """Serve `content`; return its address."""
        self.files[path] = Served(content, **options)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.asked]

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        file = self.server.files.get(self.path)
        if file is None:
            return self.send_error(404)
        if file.failures:
            return self.send_error(file.failures.pop(0))
        if file.redirect:
            self.send_response(302)
            self.send_header("Location", file.redirect)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and file.ranges else 0
        if file.if_range and self.headers.get("If-Range", file.etag) != file.etag:
            start = 0
        if start > 0 and start >= len(file.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
        if file.etag:
            self.send_header("ETag", file.etag)
        if file.encoding:
            self.send_header("Content-Encoding", file.encoding)
        body = file.content[start:]
        if file.length == "told":
            self.send_header("Content-Length", str(len(body)))
        elif file.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        send = file.cuts.pop(0) if file.cuts else len(body)
        if file.length == "chunked":
            self.wfile.write(f"{len(body):x}\r\n".encode() + body[:send])
            if send >= len(body):
                self.wfile.write(b"\r\n0\r\n\r\n")
        elif file.stop is not None:
            self.wfile.write(body[: file.stop])
            self.server.closing.wait()
        else:
            self.wfile.write(body[:send])


@contextmanager
def serving() -> Iterator[FileServer]:
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
