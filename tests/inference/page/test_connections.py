"""Connections that stall, come in crowds, or are left."""

import contextlib
import http.client
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import torch

from inference.page.conftest import MAX_SECONDS, Server
from inference.page.test_app import post, tags, upload
from samplecnn.inference.page import app as page
from samplecnn.inference.page import connections


def ends(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    connection.settimeout(300)
    answer = b""
    while piece := connection.recv(1000):
        answer += piece
    return answer


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: local", b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\nGET /x"]
)
def test_half_requests_end(server: Server, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(sent)
        ends(connection)


def test_a_head_in_pieces(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it waited for has come: the upload behind it has its own time."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    head = post(9)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for piece in (head[:10], head[10:20], head[20:]):
            connection.sendall(piece)
            time.sleep(0.02)
        time.sleep(1.1)
        connection.sendall(b"no music.")
        connection.settimeout(300)
        assert connection.recv(1000).startswith(b"HTTP/1.1 422 ")


def test_stalled_uploads_end(client: httpx.Client, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    before = server.files
    monkeypatch.setattr(page, "STALL_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(post(1000) + b"x" * 500)
        answer = ends(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"does not go on" in answer
    monkeypatch.setattr(page, "STALL_SECONDS", 60.0)
    monkeypatch.setattr(page, "UPLOAD_SECONDS", 0.3)  # one that comes drop by drop
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(post(1000))
        while len(server.files) == len(before) and not select.select([connection], [], [], 0.001)[0]:
            pass  # until it has the whole head
        monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
        connection.settimeout(0.05)
        answer = b""
        for _ in range(200):
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            for _ in range(200):
                connection.sendall(b"x")
                time.sleep(0.05)
    assert server.files == before
    assert client.get("/api/models").status_code == 200


def test_uploads_at_once_are_bounded(client: httpx.Client, server: Server, song: Path) -> None:
    """What comes besides them waits, as other tabs' songs do."""
    before = len(server.files)
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(page.UPLOADS)]
    for connection in waiting:
        connection.sendall(post(1000) + b"x")
    while len(server.files) < before + page.UPLOADS:
        time.sleep(0.01)
    one_more = http.client.HTTPConnection("127.0.0.1", server.port)
    one_more.request("POST", "/api/sounds", body=song.read_bytes())
    time.sleep(0.2)
    assert client.get("/api/models").status_code == 200
    assert len(server.files) == before + page.UPLOADS
    for connection in waiting:
        connection.close()
    answer = one_more.getresponse()
    assert answer.status == 201
    one_more.close()
    while list(server.sounds.folder.glob("*.upload")):  # of those that have left
        time.sleep(0.01)


def test_models_take_turns(server: Server, song: Path) -> None:
    """And so do two questions to one model, whose excitations are read by hooks on it."""
    running, most = [0], [0]

    def begin(*_: object) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)

    def end(*_: object) -> None:
        running[0] -= 1

    networks = [server.models[name].network for name in ("se", "res1")]
    hooks = [made.register_forward_pre_hook(begin) for made in networks]
    hooks += [made.register_forward_hook(end) for made in networks]
    try:
        with (
            httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client,
            ThreadPoolExecutor() as asking,
        ):
            sound = upload(client, song)["id"]
            answers = list(asking.map(partial(tags, client, sound), ["se", "res1", "se"]))
    finally:
        for hook in hooks:
            hook.remove()
    assert most == [1]
    assert answers[0] == answers[2]


def test_whoever_leaves_ends_the_computation(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(22050 * MAX_SECONDS, dtype=np.int16), 22050)
    batches: list[int] = []
    left = threading.Event()

    def count(_network: object, inputs: tuple[torch.Tensor], _output: object) -> None:
        batches.append(len(inputs[0]))
        if len(batches) > 1:
            left.wait(300)

    hook = server.models["res1"].network.register_forward_hook(count)
    try:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as leaving:
            sound = upload(leaving, path)["id"]
            with leaving.stream("GET", f"/api/sounds/{sound}/tags?model=res1") as answer:
                next(answer.iter_lines())
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as other:
            assert other.get("/api/models").status_code == 200  # the server has heard of it
            left.set()
            assert "mean" in tags(other, sound, "res1")[-1]  # after that one: models take turns
    finally:
        hook.remove()
    assert 0 < len(batches) - 3 < 3  # of three
