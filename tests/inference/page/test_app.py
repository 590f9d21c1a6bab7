"""What the server answers, over real connections."""

import base64
import http.client
import itertools
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import torch

from inference.page.conftest import MAX_BYTES, MAX_SECONDS, Server
from samplecnn.data import audio
from samplecnn.inference.page.app import FILES
from samplecnn.inference.page.sounds import KEPT
from samplecnn.model.excitation import segment_excitations

Lines = list[dict[str, Any]]


def upload(client: httpx.Client, file: Path) -> dict[str, Any]:
    answer = client.post("/api/sounds", content=file.read_bytes())
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def post(size: int) -> bytes:
    return f"POST /api/sounds HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()


def tags(client: httpx.Client, sound: str, model: str) -> Lines:
    answer = client.get(f"/api/sounds/{sound}/tags", params={"model": model})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]
    assert all(word in message for word in words), message
    assert message.endswith(".")


def excitations(lines: Lines, block: int) -> np.ndarray:
    """`(segments, channels)`, 0 to 255."""
    rows = []
    for line in lines[1:-1]:
        values = np.frombuffer(base64.b64decode(line["excitations"][str(block)]), np.uint8)
        rows.append(values.reshape(len(line["probabilities"]), -1))
    return np.concatenate(rows)


def sounds_of(server: Server) -> set[str]:
    """The names of those that are kept."""
    return {name.partition(".")[0] for name in server.files}


def segments_of(file: Path, rate: int) -> np.ndarray:
    waveform, original = audio.decode(file)
    return audio.segments(audio.resample(waveform, original, rate))


def test_page_and_files(client: httpx.Client) -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    for path, file in FILES.items():
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kinds[file.suffix[1:]])
    index = client.get("/")
    policy = index.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert index.headers["x-content-type-options"] == "nosniff"
    size = sum(len(client.get(path).content) for path in FILES)
    assert size < 40_000
    assert not any(b"//" in client.get(path).content.replace(b"http://www.w3.org", b"").replace(b"// ", b"")
                   for path in FILES)  # no address of anywhere else  # fmt: skip
    for path in ("/app.py", "/../app.py", "/%2e%2e/app.py", "/page/", "/api/", "/favicon.ico"):
        assert client.get(path).status_code == 404


def test_models(client: httpx.Client) -> None:
    told = client.get("/api/models").json()
    assert (told["max_bytes"], told["max_minutes"]) == (MAX_BYTES, MAX_SECONDS / 60)
    assert {model["name"]: model["excitations"] for model in told["models"]} == {
        "se": True,
        "res1": False,
        "low & slow": True,
    }
    assert told["models"][1]["about"] == "res1, multi-level, width 3, 3 tags of mini"


@pytest.mark.parametrize("name", ["se", "res1", "low & slow"])
def test_tags_and_excitations(client: httpx.Client, server: Server, song: Path, name: str) -> None:
    """The same as from the tagger, whose answer is that of the file as a whole."""
    tagger = server.models[name]
    sound = upload(client, song)
    assert sound["seconds"] == pytest.approx(31, abs=1e-4)
    assert not sound["cut"]
    first, *batches, last = lines = tags(client, sound["id"], name)
    segments = segments_of(song, tagger.sample_rate)
    assert len(batches) == -(-len(segments) // 10) > 0
    assert first == {
        "tags": list(tagger.tags),
        "segments": len(segments),
        "segment_seconds": 59049 / tagger.sample_rate,
    }
    np.testing.assert_allclose(last["mean"], tagger.predict_file(song), rtol=0, atol=1e-6)
    got = np.concatenate([batch["probabilities"] for batch in batches])
    np.testing.assert_allclose(got, tagger.predict_segments(segments), rtol=0, atol=6e-5)
    assert got.std(axis=0).max() > 0.01  # they move
    if name == "res1":
        assert all(batch["excitations"] == {} for batch in batches)
        return
    expected = segment_excitations(tagger.network, torch.from_numpy(segments))
    assert batches[0]["excitations"].keys() == set(map(str, expected))
    for block, gates in expected.items():
        got = excitations(lines, block)
        np.testing.assert_allclose(got / 255, gates, rtol=0, atol=0.5 / 255 + 1e-5)


def test_peaks(client: httpx.Client, song: Path) -> None:
    peaks = np.array(upload(client, song)["peaks"])
    assert peaks.shape == (1000, 2)
    waveform = audio.resample(*audio.decode(song))
    np.testing.assert_allclose([peaks.min(), peaks.max()], [waveform.min(), waveform.max()], atol=6e-4)
    edges = np.linspace(0, len(waveform), 1001).astype(int)
    columns = [(waveform[a:b].min(), waveform[a:b].max()) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(peaks, columns, rtol=0, atol=6e-4)


def test_short_and_tiny_sounds(client: httpx.Client, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    for samples in (1, 7, 22050):
        soundfile.write(path, np.full(samples, 0.25), 22050, subtype="FLOAT")
        sound = upload(client, path)
        assert sound["seconds"] == samples / 22050
        assert sound["peaks"] == [[0.25, 0.25]] * min(samples, 1000)
        first, batch, last = tags(client, sound["id"], "se")
        assert first["segments"] == len(batch["probabilities"]) == 1
        np.testing.assert_allclose(last["mean"], server.models["se"].predict_file(path), atol=1e-6)


def test_what_is_no_song(client: httpx.Client, server: Server, song: Path, tmp_path: Path) -> None:
    endless = tmp_path / "nan.wav"
    soundfile.write(endless, np.full(2000, np.nan), 22050, subtype="FLOAT")
    whole = song.read_bytes()
    before = server.files
    for content, status, word in (
        (b"", 400, "empty"),
        (b"<html>no music</html>" * 100, 422, "cannot be decoded as audio"),
        (np.random.default_rng(1).bytes(100_000), 422, "cannot be"),
        (endless.read_bytes(), 422, "NaN"),
        (whole[: len(whole) // 2], 422, "cannot be used"),
        (whole[:40], 422, "cannot be used"),
    ):
        refused(client.post("/api/sounds", content=content), status, word)
        assert str(server.sounds.folder) not in client.post("/api/sounds", content=content).text
    assert server.files == before
    upload(client, song)


def test_too_large(client: httpx.Client, server: Server) -> None:
    before = server.files
    largest = client.post("/api/sounds", content=b"x" * MAX_BYTES)
    refused(largest, 422, "cannot be decoded")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:  # by what it announces
        connection.sendall(post(MAX_BYTES + 1))
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    unannounced = http.client.HTTPConnection("127.0.0.1", server.port)  # by what comes
    unannounced.request(
        "POST", "/api/sounds", body=iter([b"x" * (MAX_BYTES // 2)] * 2 + [b"x"]), encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )  # fmt: skip
    answer = unannounced.getresponse()
    assert answer.status == 413
    assert "up to 5 MB" in json.loads(answer.read())["error"]
    unannounced.close()
    assert server.files == before


def test_long_sounds_are_cut(client: httpx.Client, server: Server, tmp_path: Path) -> None:
    """A small file of much silence does not fill the disk."""
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(22050 * MAX_SECONDS * 5, dtype=np.int16), 22050)
    assert path.stat().st_size < 100_000
    sound = upload(client, path)
    assert sound["cut"]
    assert sound["seconds"] == MAX_SECONDS
    sizes = [file.stat().st_size for file in server.sounds.folder.glob(f"{sound['id']}.*")]
    assert sorted(sizes) == [MAX_SECONDS * 16000 * 4, MAX_SECONDS * 22050 * 4]


def test_other_hosts_and_origins(client: httpx.Client, server: Server, song: Path) -> None:
    for host in (
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        f"localhost.evil:{server.port}",
    ):
        answer = client.get("/api/models", headers={"Host": host})
        assert answer.status_code == 400
        assert "content-security-policy" in answer.headers
    assert client.get("/api/models", headers={"Host": f"localhost:{server.port}"}).status_code == 200
    content = song.read_bytes()
    before = server.files
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https://127.0.0.1:{server.port}"):
        refused(client.post("/api/sounds", content=content, headers={"Origin": origin}), 403, "own page")
        refused(client.get("/api/models", headers={"Origin": origin}), 403)
    assert server.files == before
    assert client.post("/api/sounds", content=content, headers={"Origin": server.url}).status_code == 201
    assert client.options("/api/sounds", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/api/sounds").status_code == 405


def test_names_that_are_none(client: httpx.Client, song: Path) -> None:
    sound = upload(client, song)["id"]
    for name in ("nothing", "..%2f..%2fetc%2fpasswd", "%00", f"{sound}.22050"):
        assert client.get(f"/api/sounds/{name}/tags?model=se").status_code == 404
        assert client.get(f"/api/sounds/{name}/audio").status_code == 404
    refused(client.get(f"/api/sounds/{sound}/tags"), 404, "no model ''", "se, res1, low & slow")
    refused(client.get(f"/api/sounds/{sound}/tags?model=../se"), 404, "no model '../se'")


def test_the_oldest_is_dropped(client: httpx.Client, server: Server, song: Path) -> None:
    ids = [upload(client, song)["id"] for _ in range(KEPT + 1)]
    assert len(set(ids)) == KEPT + 1
    refused(client.get(f"/api/sounds/{ids[0]}/tags?model=se"), 404, "choose it again")
    assert sounds_of(server) == set(ids[1:])
    assert "mean" in tags(client, ids[1], "se")[-1]
    for file in server.sounds.folder.glob(f"{ids[2]}.*"):  # dropped after it was found
        file.unlink()
    for asked in ("tags?model=se", "audio"):
        refused(client.get(f"/api/sounds/{ids[2]}/{asked}"), 404, "choose it again")


def test_audio(client: httpx.Client, song: Path, tmp_path: Path) -> None:
    address = f"/api/sounds/{upload(client, song)['id']}/audio"
    whole = client.get(address)
    assert whole.headers["content-type"] == "audio/wav"
    (tmp_path / "heard.wav").write_bytes(whole.content)
    info = soundfile.info(tmp_path / "heard.wav")
    assert (info.samplerate, info.channels, info.subtype) == (22050, 1, "PCM_16")
    heard, _ = soundfile.read(tmp_path / "heard.wav")
    np.testing.assert_allclose(heard, audio.resample(*audio.decode(song)), atol=2 / 32768)
    part = client.get(address, headers={"Range": "bytes=1000-1999"})
    assert part.status_code == 206
    assert part.content == whole.content[1000:2000]
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(whole.content)}"
    assert part.headers["etag"] == whole.headers["etag"]  # one file, made once
