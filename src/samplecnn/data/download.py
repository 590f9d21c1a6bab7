"""Files from the web: mirrors in order, resumed by byte range, checked, and whole once they have their name.

    file.part        what has come so far
    file.part.json   the address it came from, the server's mark of that version, its size

A part goes on only where it is certain to be the same file: at the address it came from if the server
confirms the version (ETag or Last-Modified), anywhere if there is a published checksum to compare in the end.
Else it starts again.
"""

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from samplecnn.errors import UserError, network_reason
from samplecnn.files import write

CHUNK = 1 << 20  # bytes
ATTEMPTS = 4  # in a row at one mirror, that bring less than a CHUNK
TIMEOUT = 30  # seconds without a byte
TRANSIENT = (408, 425, 429)  # HTTP status codes below 500 that may be better next time
RANGE_NOT_SATISFIABLE = 416
NETWORK = (OSError, http.client.HTTPException)
GIT_BLOB = "git blob id"
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

# Only what HTTP needs: urllib's default would follow a redirect to ftp:// too.
_OPENER = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
):
    _OPENER.add_handler(_handler())


class DownloadError(UserError):
    """A file that cannot be fetched: each mirror with its reason, and how to go on by hand."""


class _MirrorError(Exception):
    """Why one mirror is given up."""


@dataclass(frozen=True)
class Remote:
    """A file on the web: its name here, its addresses in the order to try, and what is published of it."""

    name: str
    urls: tuple[str, ...]
    bytes: int | None = None
    md5: str | None = None
    git_blob: str | None = None

    @property
    def has_checksum(self) -> bool:
        """Whether a wrong byte would show."""
        return bool(self.md5 or self.git_blob)

    def problem(self, file: Path) -> str | None:
        """Say what is wrong with a file that should be whole."""
        size = file.stat().st_size
        if self.bytes not in (None, size):
            return f"{size:,} bytes, {self.bytes:,} are published"
        for kind, published in (("md5", self.md5), (GIT_BLOB, self.git_blob)):
            if published and (found := checksum(file, kind)) != published.lower():
                return f"{kind} {found}, {published} is published"
        return None


def checksum(file: Path, kind: str) -> str:
    """Return a file's checksum, hexadecimal: "md5", or GIT_BLOB, by which git knows its content."""
    digest = hashlib.new("sha1" if kind == GIT_BLOB else kind, usedforsecurity=False)
    if kind == GIT_BLOB:
        digest.update(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: digest).hexdigest()


def fetch(remote: Remote, folder: Path, *, progress: bool = True, pause: float = 1.0) -> Path:
    """Fetch a file into a folder from the first address that has it as published; by one caller at a time.

    A file that is there is checked and not fetched again. A mirror that breaks off is asked for the rest,
    after `pause` seconds and then twice as long each time. Whatever ends the call, what has come stays in
    `file.part`, and the next call goes on there.

    Raises `DownloadError` if no mirror has the file, if one that is there is not the published one (it is
    left as it is), if it cannot be written, and for addresses that are not http:// or https://.
    """
    file = folder / remote.name
    for url in remote.urls:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise DownloadError(f"address {url!r}: allowed are http:// and https://")
    reasons = []
    try:
        if file.is_file():
            if problem := remote.problem(file):
                raise DownloadError(
                    f"{file} is not the published file ({problem}): delete it to fetch it anew"
                )
            return file
        folder.mkdir(parents=True, exist_ok=True)
        with tqdm(desc=file.name, unit="B", unit_scale=True, disable=not progress) as bar:
            for url in remote.urls:
                try:
                    _Download(url, file, remote, bar, pause).run()
                    return file
                except _MirrorError as error:
                    reasons.append(f"  {url}: {error}")
    except OSError as error:  # the disk's: what the network raises does not come this far
        raise DownloadError(
            f"cannot write {file} ({error.strerror or error})."
            " What has come is kept: run it again, it goes on from there"
        ) from error
    by_hand = f"Run it again to go on where it stopped, or get the file another way and put it at {file}"
    raise DownloadError("\n".join([f"cannot fetch {file.name}:", *reasons, by_hand]))


class _Download:
    """One file from one mirror."""

    def __init__(self, url: str, file: Path, remote: Remote, bar: Any, pause: float) -> None:
        self.url, self.file, self.remote, self.bar, self.pause = url, file, remote, bar, pause
        self.part = file.with_name(f"{file.name}.part")
        self.note = file.with_name(f"{file.name}.part.json")

    def run(self) -> None:
        """Return when the file is there, as published; raises `_MirrorError`."""
        resumed = self.size() > 0
        self.receive()
        if problem := self.remote.problem(self.part):
            self.drop()
            if not resumed:
                raise _MirrorError(problem)
            self.run()  # what was there before may be what is wrong, and not this mirror
            return
        self.part.replace(self.file)
        self.note.unlink(missing_ok=True)

    def size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def drop(self) -> None:
        self.note.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def receive(self) -> None:
        """Fill the part, in as many attempts as that takes."""
        failures, most = 0, self.size()
        while reason := self.attempt():
            # Against the most there ever was: a server that always begins anew makes no progress.
            failures = 0 if self.size() >= most + CHUNK else failures + 1
            most = max(most, self.size())
            if failures == ATTEMPTS:
                raise _MirrorError(f"{reason} ({ATTEMPTS} attempts)")
            time.sleep(self.pause * 2 ** max(0, failures - 1))

    def attempt(self) -> str | None:
        """Make one request and add what comes to the part; return why it is not whole now, None if it is."""
        start, note = self.size(), self.read_note()
        if start and start in (note.get("total"), self.remote.bytes):
            return None  # the last call ended between the last byte and the check
        version = note.get("version")
        headers = {"User-Agent": "samplecnn", "Accept-Encoding": "identity"}
        if start and (version or self.remote.has_checksum):
            headers["Range"] = f"bytes={start}-"
            if version:
                headers["If-Range"] = version
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 checked in `fetch`
        try:
            response = _OPENER.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"HTTP {error.code} {error.reason}"
            if error.code == RANGE_NOT_SATISFIABLE:  # the part is longer than what is there now
                self.drop()
            elif error.code < 500 and error.code not in TRANSIENT:
                raise _MirrorError(reason) from error
            return reason
        except NETWORK as error:
            return network_reason(error)
        with response:
            return self.store(response, start, version)

    def read_note(self) -> dict[str, Any]:
        """Return what is written about the part if it came from this address."""
        try:
            note = json.loads(self.note.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return note if isinstance(note, dict) and note.get("url") == self.url else {}

    def store(self, response: Any, start: int, version: str | None) -> str | None:
        """Write a response to the part, from byte `start` on if it is one to a range; return as `attempt`."""
        etag = response.headers.get("ETag") or "W/"  # a weak one does not vouch for the bytes
        now = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
        total = response.length
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            sent = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not sent or int(sent[1]) != start or (version and now and now != version):
                self.drop()
                return "sent another range or version than it was asked for"
            total = None if sent[2] == "*" else int(sent[2])
        else:
            start = 0
        remote = self.remote
        if total is not None and remote.bytes not in (None, total):
            raise _MirrorError(f"has {total:,} bytes, {remote.bytes:,} are published")
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise _MirrorError(f"sends it encoded ({coding}), which was not asked for")
        total = remote.bytes if total is None else total
        if total is None and not (response.chunked or remote.has_checksum):
            raise _MirrorError(
                "does not say how long the file is, and there is no checksum that would show a cut"
            )
        if total and (free := disk_usage(self.part.parent).free) < total - start:
            raise OSError(f"{total - start:,} bytes are missing and {free:,} are free")

        self.bar.total, self.bar.n = total, start
        self.bar.refresh()
        with self.part.open("ab" if start else "wb") as out:
            if not start:
                write(self.note, json.dumps({"url": self.url, "version": now, "total": total}))
            try:
                while True:
                    try:
                        block = response.read1(CHUNK)  # `read` would lose what is there if no more comes
                    except NETWORK as error:
                        return network_reason(error)
                    if not block:
                        break
                    out.write(block)
                    self.bar.update(len(block))
                    if total is not None and out.tell() > total:
                        raise _MirrorError(f"sends more than the {total:,} bytes it has")
            finally:
                out.flush()
                os.fsync(out.fileno())
        # A chunked response says itself where it ends; whether that is enough is checked by the caller.
        whole = total is None or response.chunked or self.size() == total
        return None if whole else f"broke off after {self.size():,} bytes"
