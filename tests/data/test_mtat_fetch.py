"""MagnaTagATune from a server to a catalogue, killed on the way; and its counts beside the published ones."""

import hashlib
import io
import json
import logging
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from data.file_server import FileServer, serving
from samplecnn.data.archive import ArchiveError
from samplecnn.data.datasets import mtat
from samplecnn.data.datasets.mtat_fetch import SOURCE, Source, fetch_raw
from samplecnn.data.download import DownloadError, Remote
from samplecnn.data.store import Store
from samplecnn.files import locked

SHARED = Path(__file__).parents[3] / "shared/mtat"
CLIPS = {f"{digit}/clip-{digit}.mp3": random.Random(digit).randbytes(40_000) for digit in "0123456789abcdef"}
ROWS = [f'"{number}"\t"{number % 2}"\t"1"\t"{path}"' for number, path in enumerate(CLIPS)]
ANNOTATIONS = "\r\n".join(["clip_id\tloud\tslow\tmp3_path", *ROWS, ""]).encode()

# Run by `python -c`: folder, and the source as JSON.
FETCH = """
import json, sys
from pathlib import Path
from samplecnn.data.datasets.mtat_fetch import Source, fetch_raw
from samplecnn.data.download import Remote
source = json.loads(sys.argv[2])
archives = tuple(tuple(Remote(**part) for part in parts) for parts in source["archives"])
fetch_raw(Path(sys.argv[1]), Source(Remote(**source["annotations"]), archives), progress=False)
"""


def archive(clips: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for digit in "0123456789abcdef":
            opened.writestr(f"{digit}/", b"")
        for path, data in clips.items():
            opened.writestr(path, data)
    return file.getvalue()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def source(server: FileServer) -> Source:
    """Two mirrors, of which the first has gone, with three parts; and the whole archive elsewhere."""
    whole = archive(CLIPS)
    step = len(whole) // 3 + 1

    def remote(name: str, content: bytes) -> Remote:
        urls = server.url(f"/gone/{name}"), server.add(f"/{name}", content)
        return Remote(name, urls, md5=hashlib.md5(content, usedforsecurity=False).hexdigest())

    parts = (remote(f"mp3.zip.00{i + 1}", whole[i * step : (i + 1) * step]) for i in range(3))
    url = server.add("/whole/mp3.zip", whole)
    copy = (Remote("mp3.zip", (url,), bytes=len(whole)),)
    return Source(remote("annotations_final.csv", ANNOTATIONS), (tuple(parts), copy))


def audio(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_whole_way_killed_and_taken_up(tmp_path: Path, server: FileServer, source: Source) -> None:
    raw = tmp_path / "raw"
    server.files["/mp3.zip.002"].stop = 100_000
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, str(raw), json.dumps(asdict(source))],
        stderr=subprocess.PIPE,
        text=True,
    )
    part = raw / "mp3.zip.002.part"
    while not (part.is_file() and part.stat().st_size > 80_000):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    came = part.stat().st_size

    server.files["/mp3.zip.002"].stop = None
    server.asked.clear()
    fetch_raw(raw, source, progress=False)
    catalog = mtat.catalog(raw, "x")
    found = [(path, asked) for path, asked in server.asked if "gone" not in path]
    assert found == [("/mp3.zip.002", f"bytes={came}-"), ("/mp3.zip.003", None)]
    assert catalog.audio == raw / "mp3"
    assert audio(catalog.audio) == CLIPS
    assert [clip.path for clip in catalog.clips] == list(CLIPS)
    assert not list(raw.glob("*.part*"))

    server.asked.clear()
    for name in ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003"):
        (raw / name).unlink()
    fetch_raw(raw, source)
    assert mtat.catalog(raw, "x") == catalog
    assert server.asked == []


def test_the_copy_stands_in_for_the_parts(tmp_path: Path, server: FileServer, source: Source) -> None:
    del server.files["/mp3.zip.003"]
    fetch_raw(tmp_path, source, progress=False, pause=0)
    assert audio(tmp_path / "mp3") == CLIPS
    assert server.asked[-1] == ("/whole/mp3.zip", None)


def test_files_put_there_by_hand_are_used(tmp_path: Path, server: FileServer, source: Source) -> None:
    (tmp_path / "annotations_final.csv").write_bytes(ANNOTATIONS)
    (tmp_path / "mp3.zip").write_bytes(archive(CLIPS))
    fetch_raw(tmp_path, source, progress=False)
    assert audio(tmp_path / "mp3") == CLIPS
    assert server.asked == []


def test_what_another_process_has_fetched_meanwhile_is_used(
    tmp_path: Path, server: FileServer, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / "fetch.lock"):
            waits = pool.submit(fetch_raw, tmp_path, source, progress=False)
            while f"another process fetches into {tmp_path}" not in caplog.text:
                time.sleep(0.01)
            (tmp_path / "fetched").touch()
        waits.result()
    assert server.asked == []


def test_what_to_do_when_nothing_can_be_had(tmp_path: Path, server: FileServer, source: Source) -> None:
    server.files = {"/annotations_final.csv": server.files["/annotations_final.csv"]}
    with pytest.raises(DownloadError) as caught:
        fetch_raw(tmp_path, source, progress=False)
    said = str(caught.value)
    for words in ("/gone/mp3.zip.001: HTTP 404", "/whole/mp3.zip: HTTP 404", "data.raw=DIR"):
        assert words in said
    assert f"put it at {tmp_path / 'mp3.zip.001'}" in said


def test_an_archive_that_is_not_as_expected(tmp_path: Path, server: FileServer, source: Source) -> None:
    url = server.add("/bad", archive({"../a.mp3": b"x"}))
    bad = Source(source.annotations, ((Remote("mp3.zip", (url,)),),))
    for _ in range(2):  # it is not taken for finished
        with pytest.raises(ArchiveError, match=r"mp3\.zip: entry '\.\./a\.mp3'"):
            fetch_raw(tmp_path / "raw", bad, progress=False)
    assert not list(tmp_path.rglob("a.mp3"))


def test_the_real_source() -> None:
    """As far as it can be said without it: complete, https first, checksums well-formed."""
    parts, copy = SOURCE.archives
    assert [part.name for part in parts] == ["mp3.zip.001", "mp3.zip.002", "mp3.zip.003"]
    assert [file.name for file in copy] == ["mp3.zip"]
    for file in (SOURCE.annotations, *parts):
        assert file.md5
        assert len(bytes.fromhex(file.md5)) == 16
    for file in (SOURCE.annotations, *parts, *copy):
        assert file.urls[0].startswith("https://")
        assert all(url.endswith(f"/{file.name}") for url in file.urls)


def test_nothing_is_published_of_another_data_set(store_path: Path) -> None:
    assert mtat.compare(Store.open(store_path)) == []


@pytest.mark.skipif(not SHARED.exists(), reason="MTAT's metadata (shared/mtat) is not beside this checkout")
def test_counts_beside_the_published_ones(store_path: Path) -> None:
    catalog = mtat.catalog(SHARED)
    missing = next(clip for clip in catalog.clips if clip.path.startswith("c") and len(clip.tags) > 5)

    def counts(gone: set[str]) -> list[str]:
        """As if all clips but the `gone` ones had been prepared."""
        kept = [row for row, clip in enumerate(catalog.clips) if clip.path not in gone]
        store = replace(
            Store.open(store_path),
            tags=catalog.tags,
            tag_counts=catalog.labels().sum(axis=0, dtype=np.int64),
            labels=catalog.labels()[kept],
            clip_ids=tuple(catalog.clips[row].id for row in kept),
            splits={
                name: replace(split, parts=tuple(split.parts[row] for row in kept))
                for name, split in catalog.splits.items()
            },
            skipped=tuple({"id": p, "path": p, "reason": "empty file (0 bytes)"} for p in sorted(gone)),
        )
        return mtat.compare(store)

    lines = counts(set(mtat.UNDECODABLE))
    assert lines[:4] == [
        "split clean, top 50 tags, clips:",
        "  train  15,244, published  15,244, difference +0",
        "  valid   1,529, published   1,529, difference +0",
        "  test    4,332, published   4,332, difference +0",
    ]
    pons = lines.index("split pons, top 50 tags, clips:")
    assert [line.split("published")[1] for line in lines[pons + 1 : pons + 4]] == [
        *("  18,706, difference +0", "   1,825, difference +0", "   5,329, difference +0")
    ]
    assert all(any(path in line for line in lines[4:pons]) for path in mtat.UNDECODABLE | mtat.NOT_IN_CLEAN)
    assert not any("empty file" in line for line in lines)

    lines = counts({*mtat.UNDECODABLE, missing.path})
    assert "  valid   1,528, published   1,529, difference -1" in lines
    assert "  valid   1,824, published   1,825, difference -1" in lines
    assert sum(f"valid: {missing.path}: empty file (0 bytes)" in line for line in lines) == 2
