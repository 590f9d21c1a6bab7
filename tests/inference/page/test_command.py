"""`samplecnn serve` as typed in a shell."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from held import Place, as_block
from inference.models import checkpoint
from samplecnn.cli import main
from samplecnn.cli.common import model_name
from samplecnn.cli.serve import listen
from samplecnn.text import unique


def start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "samplecnn", "serve", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
    )


def test_served_until_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models of one name, in the browser; nothing is left behind, and Ctrl-C is no error."""
    for run in ("a/run", "b/run"):
        checkpoint(tmp_path / run / "checkpoints" / "best.ckpt")
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened.part\nmv {tmp_path}/opened.part {tmp_path}/opened\n'
    )
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    serving = start("a/run", "b/run", "--port", 0, folder=tmp_path)
    try:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        assert line.startswith("run, run (2): http://127.0.0.1:"), serving.communicate()
        answer = httpx.get(f"{line.split()[-4]}api/models", timeout=300, trust_env=False)
        while not (tmp_path / "opened").exists():
            time.sleep(0.01)
        assert (tmp_path / "opened").read_text() == line.split()[-4]
        assert [model["name"] for model in answer.json()["models"]] == ["run", "run (2)"]
    finally:
        serving.send_signal(signal.SIGINT)
    out, err = serving.communicate(timeout=300)
    assert (serving.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM])
def test_no_song_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals) -> None:
    """Also where the terminal is closed, which is how most servers end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    soundfile.write(tmp_path / "song.wav", np.zeros(22050), 22050)
    serving = start(checkpoint(tmp_path / "made.ckpt"), "--port", 0, "--no-browser", folder=tmp_path)
    try:
        assert serving.stdout is not None
        url = serving.stdout.readline().split()[-4]
        song = (tmp_path / "song.wav").read_bytes()
        answer = httpx.post(f"{url}api/sounds", content=song, timeout=300, trust_env=False)
        assert answer.status_code == 201
        assert list(tmp_path.glob("samplecnn-*/*"))
        serving.send_signal(how)
        assert serving.communicate(timeout=300) == ("", "")
    finally:
        serving.kill()
    assert list(tmp_path.glob("samplecnn-*")) == []


def test_interrupted_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a network computes: it ends soon, and quietly."""
    made = checkpoint(tmp_path / "made.ckpt")
    soundfile.write(tmp_path / "long.flac", np.zeros(22050 * 60, np.int16), 22050)
    place = Place(str(tmp_path / "held"))
    for name, value in place.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    serving = start(made, "--port", 0, "--no-browser", *as_block(), folder=tmp_path)
    try:
        assert serving.stdout is not None
        url = serving.stdout.readline().split()[-4]
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
            sound = client.post("api/sounds", content=(tmp_path / "long.flac").read_bytes()).json()["id"]
            with client.stream("GET", f"api/sounds/{sound}/tags?model=made") as answer:
                lines = answer.iter_lines()
                next(lines)
                while not place.reached():
                    assert serving.poll() is None
                serving.send_signal(signal.SIGINT)
                with contextlib.suppress(httpx.RemoteProtocolError):  # the answer has no end
                    assert not any("mean" in line for line in lines)
        place.leave()
        out, err = serving.communicate(timeout=300)
    finally:
        serving.kill()
    assert (serving.returncode, out, err) == (0, "", "")


def test_interrupted_while_others_stall(tmp_path: Path) -> None:
    """Neither a half request nor a half upload keeps it from ending."""
    serving = start(checkpoint(tmp_path / "made.ckpt"), "--port", 0, "--no-browser", folder=tmp_path)
    try:
        assert serving.stdout is not None
        port = int(serving.stdout.readline().split()[-4].rstrip("/").rpartition(":")[2])
        half = b"POST /api/sounds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        with (
            socket.create_connection(("127.0.0.1", port)) as request,
            socket.create_connection(("127.0.0.1", port)) as upload,
        ):
            request.sendall(half)
            upload.sendall(half + b"\r\nxxx")
            answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=300, trust_env=False)
            assert answer.status_code == 200  # it has seen both
            serving.send_signal(signal.SIGINT)
            for connection in (request, upload):
                connection.settimeout(300)
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(1000) == b""
        out, err = serving.communicate(timeout=300)
    finally:
        serving.kill()
    assert (serving.returncode, out, err) == (0, "", "")


def test_what_cannot_be_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve"]) == 1
    assert "no finished run below" in capsys.readouterr().err
    assert main(["serve", "nowhere"]) == 1
    assert "there is no run folder or checkpoint nowhere" in capsys.readouterr().err
    model = str(checkpoint(tmp_path / "made.ckpt"))
    with listen("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        assert main(["serve", model, "--no-browser", "--port", str(number)]) == 1
    assert f"port {number} of 127.0.0.1: Address already in use" in capsys.readouterr().err
    for wrong in (["--port", "65536"], ["--port", "-1"], ["--limit", "0"], ["--minutes", "x"]):
        with pytest.raises(SystemExit, match="2"):
            main(["serve", *wrong])


def test_without_the_extra(tmp_path: Path) -> None:
    """In a process in which Starlette cannot be imported."""
    code = "import sys; sys.modules['starlette'] = None; from samplecnn.cli import main; "
    code += "sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == 'samplecnn serve: starlette is not installed: pip install "samplecnn[serve]"\n'


def test_names(tmp_path: Path) -> None:
    run = tmp_path / "first"
    best = checkpoint(run / "checkpoints" / "best.ckpt")
    (tmp_path / "bundle").mkdir()
    paths = (run, best, tmp_path / "made.ckpt", tmp_path / "bundle" / "model.safetensors")
    for path in paths[2:]:
        path.touch()
    assert [model_name(path, "se") for path in paths] == ["first", "first", "made", "bundle"]
    dated, cell = tmp_path / "2026-01-31" / "18-02-03", tmp_path / "sweep" / "4"
    for folder in (dated, cell):
        folder.mkdir(parents=True)
    assert model_name(dated, "se") == "2026-01-31/18-02-03 se"
    assert model_name(cell, "res1") == "sweep/4 res1"
    assert model_name(Path("hf:owner/name"), "se") == "hf:owner/name"
    assert model_name(Path("mtat-musicnn"), "musicnn") == "mtat-musicnn"
    assert unique(["a", "b", "a", "a", "a (2)"]) == ["a", "b", "a (2)", "a (3)", "a (2) (2)"]
