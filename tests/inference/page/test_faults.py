"""What the server answers when a decoder dies or hangs, or a network fails."""

import fcntl
import http.client
import json
import os
import signal
import socket
import sys
import termios
import time
from pathlib import Path

import httpx
import pytest

import samplecnn
from inference.models import checkpoint
from inference.page.conftest import Server, serving
from inference.page.test_app import post, refused, sounds_of, tags, upload
from samplecnn.data.audio import DecoderProcess
from samplecnn.inference.page import sounds
from samplecnn.inference.tagger import Tagger


def unread(decoder: DecoderProcess) -> int:
    """Return how much memory is taken by what the decoder has not yet read of what it was asked."""
    answer = fcntl.ioctl(decoder._pipe.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def test_a_decoder_that_dies(models: dict[str, Tagger], song: Path) -> None:
    with serving(models) as server, httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        decoder = server.sounds.decoder
        os.kill(decoder.pid, signal.SIGKILL)  # while nobody uses it
        decoder._process.join()
        first = upload(client, song)
        os.kill(decoder.pid, signal.SIGSTOP)  # a file that it is at when it dies
        sending = http.client.HTTPConnection("127.0.0.1", server.port)
        sending.request("POST", "/api/sounds", body=song.read_bytes())
        while not unread(decoder):
            time.sleep(0.01)
        os.kill(decoder.pid, signal.SIGSEGV)
        os.kill(decoder.pid, signal.SIGCONT)
        answer = sending.getresponse()
        assert answer.status == 422
        assert json.loads(answer.read()) == {
            "error": "This file cannot be used: crashes the decoder (SIGSEGV)."
        }
        sending.close()
        assert tags(client, upload(client, song)["id"], "se")[-1] == tags(client, first["id"], "se")[-1]
        folder, pid = server.sounds.folder, decoder.pid
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_song_that_nobody_waits_for(client: httpx.Client, server: Server, song: Path) -> None:
    """Whoever sent it has left before it is decoded: it takes no place among those that are kept."""
    before, content = sounds_of(server), song.read_bytes()
    os.kill(server.sounds.decoder.pid, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(post(len(content)) + content)
        while sum(file.stat().st_size for file in server.sounds.folder.glob("*.upload")) < len(content):
            time.sleep(0.01)
    assert client.get("/api/models").status_code == 200  # it has heard of it
    os.kill(server.sounds.decoder.pid, signal.SIGCONT)
    after = upload(client, song)["id"]
    assert sounds_of(server) - before == {after}


def test_a_decoder_that_hangs(
    client: httpx.Client, server: Server, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounds, "SECONDS", 0.3)
    os.kill(server.sounds.decoder.pid, signal.SIGSTOP)
    refused(client.post("/api/sounds", content=song.read_bytes()), 422, "takes too long to decode")
    monkeypatch.undo()
    upload(client, song)


def test_a_computation_that_fails(
    client: httpx.Client, server: Server, song: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By no fault of the user's: said in the page, and in full where the server was started."""

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    sound = upload(client, song)["id"]
    hook = server.models["se"].network.register_forward_pre_hook(fail)
    *_, last = tags(client, sound, "se")
    hook.remove()
    assert last == {"error": "CUDA out of memory"}
    assert "Traceback" in caplog.text
    assert "mean" in tags(client, sound, "se")[-1]


def test_a_model_that_diverged(models: dict[str, Tagger], tmp_path: Path, song: Path) -> None:
    broken = samplecnn.load(checkpoint(tmp_path / "broken.ckpt"), precision="32")
    next(broken.network.parameters()).fill_(float("nan"))
    both = {"broken": broken, "se": models["se"]}
    with serving(both) as server, httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        sound = upload(client, song)["id"]
        *_, last = tags(client, sound, "broken")
        assert last == {"error": "This model gives probabilities that are not finite: its training diverged."}
        assert "mean" in tags(client, sound, "se")[-1]
