"""Downloads against a real server: broken off, changed, wrong and killed ones, and what is asked for next."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.file_server import FileServer, serving
from samplecnn.data import download
from samplecnn.data.download import ATTEMPTS, DownloadError, Remote, checksum, fetch

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
GIT_BLOB = hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()

# Run by `python -c`: address, file, largest file in bytes (0: any).
FETCH = """
import resource, signal, sys
from pathlib import Path
from samplecnn.data.download import Remote, fetch
signal.signal(signal.SIGINT, signal.default_int_handler)
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
file = Path(sys.argv[2])
fetch(Remote(file.name, (sys.argv[1],)), file.parent, progress=False)
"""


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data.bin"


def get(urls: list[str], file: Path, **known: str | int) -> Path:
    remote = Remote(file.name, tuple(urls), **known)  # type: ignore[arg-type]
    return fetch(remote, file.parent, progress=False, pause=0)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def leave_part(url: str, file: Path, server: FileServer, size: int) -> None:
    """Have a call end after `size` bytes."""
    server.files[url.removeprefix(server.url(""))].cuts = [size, *[0] * (ATTEMPTS - 1)]
    with pytest.raises(DownloadError, match="broke off"):
        get([url], file)
    assert file.with_name("data.bin.part").stat().st_size == size
    server.asked.clear()


@pytest.mark.parametrize("known", [{}, {"bytes": len(CONTENT), "md5": MD5.upper(), "git_blob": GIT_BLOB}])
def test_a_file_is_fetched_once(server: FileServer, file: Path, known: dict[str, str | int]) -> None:
    url = server.add("/a", CONTENT)
    assert get([url], file, **known) == file
    assert get([url], file, **known) == file
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.asked == [("/a", None)]


def test_the_id_is_git_s(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert checksum(tmp_path / "empty", download.GIT_BLOB) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert checksum(tmp_path / "hello", download.GIT_BLOB) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_an_empty_file(server: FileServer, file: Path) -> None:
    get([server.add("/a", b"")], file, bytes=0)
    assert content(file.parent) == {"data.bin": b""}


def test_a_connection_that_breaks_off_is_taken_up(server: FileServer, file: Path) -> None:
    url = server.add("/a", CONTENT, cuts=[100_000, 150_000], failures=[503])
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == [None, None, "bytes=100000-", "bytes=250000-"]


def test_a_server_that_is_busy_is_asked_again(server: FileServer, file: Path) -> None:
    get([server.add("/a", CONTENT, failures=[408, 425, 429])], file)
    assert content(file.parent) == {"data.bin": CONTENT}


def test_one_that_breaks_off_often_but_brings_something_is_not_given_up(
    server: FileServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK", 10_000)
    get([server.add("/a", CONTENT, cuts=[45_000] * (ATTEMPTS + 2))], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert len(server.asked) == ATTEMPTS + 3


def test_chunks_that_break_off_are_taken_up(server: FileServer, file: Path) -> None:
    url = server.add("/a", CONTENT, cuts=[100_000], length="chunked")
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == [None, "bytes=100000-"]


@pytest.mark.parametrize("options", [{"ranges": False}, {"etag": None}, {"etag": 'W/"1"'}])
def test_a_server_that_cannot_go_on_begins_again(
    server: FileServer, file: Path, options: dict[str, bool | str | None]
) -> None:
    url = server.add("/a", CONTENT, cuts=[100_000], **options)
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == [None, "bytes=100000-" if "ranges" in options else None]


def test_one_that_always_breaks_off_is_given_up(server: FileServer, file: Path) -> None:
    url = server.add("/a", CONTENT, cuts=[100_000] * 100, ranges=False)
    with pytest.raises(DownloadError, match=r"/a: broke off after 100,000 bytes \(4 attempts\)"):
        get([url], file)
    assert len(server.asked) == ATTEMPTS
    assert content(file.parent)["data.bin.part"] == CONTENT[:100_000]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_call_is_taken_up_by_the_next(server: FileServer, file: Path, number: int) -> None:
    url = server.add("/a", CONTENT, stop=200_000)
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, url, str(file), "0"], stderr=subprocess.PIPE, text=True
    )
    part = file.with_name("data.bin.part")
    while not (part.is_file() and part.stat().st_size > 150_000):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert not file.exists()
    came = part.stat().st_size

    server.files["/a"].stop = None
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == [None, f"bytes={came}-"]


def test_a_full_disk_keeps_what_has_come(server: FileServer, file: Path) -> None:
    url = server.add("/a", CONTENT)
    failed = subprocess.run(
        [sys.executable, "-c", FETCH, url, str(file), "131072"], capture_output=True, text=True, check=False
    )
    assert "DownloadError: cannot write" in failed.stderr
    assert "goes on from there" in failed.stderr
    came = file.with_name("data.bin.part").stat().st_size
    assert 0 < came <= 131_072
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == [None, f"bytes={came}-"]


@pytest.mark.parametrize("if_range", [True, False])
def test_a_changed_file_is_not_glued_to_the_old_one(server: FileServer, file: Path, if_range: bool) -> None:
    url = server.add("/a", OTHER)
    leave_part(url, file, server, 100_000)
    server.add("/a", CONTENT, etag='"2"', if_range=if_range)
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == ["bytes=100000-"] + ([] if if_range else [None])


def test_a_shorter_file_than_the_part_begins_again(server: FileServer, file: Path) -> None:
    url = server.add("/a", OTHER, if_range=False)
    leave_part(url, file, server, 200_000)
    server.add("/a", CONTENT[:150_000], if_range=False)
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT[:150_000]}


@pytest.mark.parametrize("known", [{}, {"bytes": len(CONTENT)}, {"md5": MD5}, {"git_blob": GIT_BLOB}])
def test_another_mirror_goes_on_only_under_a_checksum(
    server: FileServer, file: Path, known: dict[str, str | int]
) -> None:
    leave_part(server.add("/a", CONTENT), file, server, 100_000)
    get([server.url("/gone"), server.add("/b", CONTENT)], file, **known)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.asked[-1] == ("/b", "bytes=100000-" if {"md5", "git_blob"} & known.keys() else None)


def test_a_wrong_part_is_not_blamed_on_the_mirror(server: FileServer, file: Path) -> None:
    leave_part(server.add("/a", OTHER), file, server, 100_000)
    get([server.add("/b", CONTENT)], file, md5=MD5)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.asked == [("/b", "bytes=100000-"), ("/b", None)]


def test_a_part_that_was_complete_is_only_checked(server: FileServer, file: Path) -> None:
    url = server.add("/a", CONTENT)
    leave_part(url, file, server, len(CONTENT) - 1)
    file.with_name("data.bin.part").write_bytes(CONTENT)
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.asked == []
    file.rename(file.with_name("data.bin.part"))  # also where only its published size is known
    get([url], file, bytes=len(CONTENT))
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.asked == []


def test_a_disk_that_is_too_small_is_noticed_beforehand(
    server: FileServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DownloadError, match=r"cannot write .*\(300,000 bytes are missing and 10 are free\)"):
        get([server.add("/a", CONTENT)], file)
    assert content(file.parent) == {}


def test_a_damaged_note_begins_again(server: FileServer, file: Path) -> None:
    url = server.add("/a", CONTENT)
    leave_part(url, file, server, 100_000)
    file.with_name("data.bin.part.json").write_text('{"url"')
    get([url], file)
    assert content(file.parent) == {"data.bin": CONTENT}
    assert server.ranges() == [None]


@pytest.mark.parametrize(
    ("options", "known", "reason"),
    [
        ({"content": OTHER}, {"md5": MD5}, f"md5 .*, {MD5} is published"),
        ({"content": OTHER}, {"git_blob": GIT_BLOB}, f"git blob id .*, {GIT_BLOB} is published"),
        ({"content": OTHER[:-1]}, {"bytes": 300_000}, "has 299,999 bytes, 300,000 are published"),
        ({"content": OTHER[:-1], "length": "chunked"}, {"bytes": 300_000}, "299,999 bytes, 300,000 are"),
        ({"content": OTHER + b"x", "length": "chunked"}, {"bytes": 300_000}, "more than the 300,000"),
        ({"content": OTHER, "failures": [404]}, {}, "HTTP 404 Not Found"),
        ({"content": OTHER, "failures": [403]}, {}, "HTTP 403 Forbidden"),
        ({"content": OTHER, "failures": [500] * 9}, {}, r"HTTP 500 .* \(4 attempts\)"),
        ({"content": OTHER, "encoding": "gzip"}, {}, r"encoded \(gzip\)"),
        ({"content": OTHER, "length": "untold"}, {}, "does not say how long the file is"),
        ({"content": b"", "redirect": "file:///etc/hostname"}, {}, "HTTP 302"),
    ],
)
def test_the_next_mirror_takes_over(
    server: FileServer,
    file: Path,
    options: dict[str, object],
    known: dict[str, str | int],
    reason: str,
) -> None:
    failures = options.get("failures")
    assert failures is None or isinstance(failures, list)
    bad = server.add("/bad", **{**options, **({"failures": list(failures)} if failures else {})})  # type: ignore[arg-type]
    good = server.add("/moved", b"", redirect=server.add("/good", CONTENT))
    get([bad, good], file, **known)
    assert content(file.parent) == {"data.bin": CONTENT}

    file.unlink()
    server.files["/bad"].failures = list(failures or [])
    with pytest.raises(DownloadError, match=reason) as caught:
        get([bad, server.url("/gone")], file, **known)
    assert f"{server.url('/gone')}: HTTP 404 Not Found" in str(caught.value)
    assert str(file) in str(caught.value)
    assert not file.exists()


def test_a_server_that_is_not_there(file: Path) -> None:
    with serving() as gone:
        url = gone.url("/a")
    with pytest.raises(DownloadError, match="refused"):
        get([url], file)


def test_a_wrong_file_that_is_there_is_left_alone(server: FileServer, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(OTHER)
    with pytest.raises(DownloadError, match="is not the published file"):
        get([server.add("/a", CONTENT)], file, md5=MD5)
    assert content(file.parent) == {"data.bin": OTHER}
    assert server.asked == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "/a", "http:///a", "data:,a"])
def test_only_http_addresses(file: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="allowed are http:// and https://"):
        get([url], file)
