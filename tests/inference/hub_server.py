"""A small Hugging Face Hub on 127.0.0.1: repositories of plain files, as far as its client asks for them."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """The files of its only commit, and false sizes that the server tells of them."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        told = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.files.items())
        return hashlib.sha1(repr(told).encode()).hexdigest()


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []  # method and path of every request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), Content_Type="application/json")

    def missing(self) -> None:
        self.answer(b"{}", 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    def path_parts(self) -> list[str]:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        return path.strip("/").split("/")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match self.path_parts():
            case ["api", "models", owner, name, "revision", _]:
                repository = self.server.repositories.get(f"{owner}/{name}")
                if repository is None:
                    return self.missing()
                sizes = {file: len(data) for file, data in repository.files.items()} | repository.sizes
                siblings = [{"rfilename": file, "size": size} for file, size in sizes.items()]
                self.tell({"id": f"{owner}/{name}", "sha": repository.commit, "siblings": siblings})
            case [owner, name, "resolve", _, *file]:
                repository = self.server.repositories.get(f"{owner}/{name}")
                data = repository.files.get("/".join(file)) if repository else None
                if repository is None or data is None:
                    return self.missing()
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self.answer(data, ETag=etag, X_Repo_Commit=repository.commit)
            case _:
                self.missing()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path_parts():
            case ["api", "repos", "create"]:
                told = json.loads(body)
                name = "/".join(filter(None, (told.get("organization"), told["name"])))
                private = bool(told.get("private")) or told.get("visibility") == "private"
                self.server.repositories.setdefault(name, Repository(private))
                self.tell({"url": f"{self.server.url}/{name}", "name": name})
            case ["api", "validate-yaml"]:
                self.tell({"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", _]:
                named = [file["path"] for file in json.loads(body)["files"]]
                told = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in named]
                self.tell({"files": told})
            case ["api", "models", owner, name, "commit", _]:
                repository = self.server.repositories[f"{owner}/{name}"]
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        value = entry["value"]
                        repository.files[value["path"]] = base64.b64decode(value["content"])
                url = f"{self.server.url}/{owner}/{name}/commit/{repository.commit}"
                self.tell({"success": True, "commitOid": repository.commit, "commitUrl": url})
            case _:
                self.missing()


@contextmanager
def serving() -> Iterator[HubServer]:
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
