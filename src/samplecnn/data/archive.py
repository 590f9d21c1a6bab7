"""Zip and tar archives, whole or in parts, unpacked without believing what they say.

Nothing is written outside the folder, and never more than was allowed: an entry is what it decompresses to,
not what its header claims. A name, a kind or a size that has no place in a data set refuses the archive.
"""

import gzip
import io
import logging
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tqdm import tqdm

log = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes
HEADERS = 1 << 20  # bytes between the contents of two tar entries: what a header may grow to in memory
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, bytes that are no text
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others decompress to any size in one step
ENCRYPTED = 0x1  # flag bit of a zip entry
LOCAL_HEADER = 30  # bytes in front of a zip entry's content, without its name
DAMAGED = (
    EOFError,
    UnicodeDecodeError,
    NotImplementedError,  # zipfile, of a compression or version that it does not know
    OverflowError,
    RuntimeError,
    gzip.BadGzipFile,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class ArchiveError(ValueError):
    """An archive that is damaged, or not what a data set is expected in: names archive and entry."""


@dataclass(frozen=True)
class _Entry:
    """A file in an archive."""

    path: PurePosixPath
    size: int
    crc: int | None  # None: a tar has none
    open: Any  # () -> a stream of its content


@dataclass
class _Rules:
    """What has been seen of an archive so far, against what is allowed."""

    max_bytes: int
    max_files: int
    entries: set[PurePosixPath] = field(default_factory=set)
    bytes: int = 0

    def check(self, name: str, size: int) -> PurePosixPath:
        path = PurePosixPath(name)
        if not path.name or UNSAFE.search(name):
            raise ArchiveError(f"entry {name!r}: allowed are names without control characters")
        if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
            raise ArchiveError(
                f"entry {name!r}: allowed are paths below the folder, with forward slashes and without '..'"
            )
        if path in self.entries:
            raise ArchiveError(f"entry {name!r} is there twice")
        self.entries.add(path)
        self.bytes += size
        if len(self.entries) > self.max_files:
            raise ArchiveError(f"more than {self.max_files:,} entries, the most that is allowed")
        if size < 0 or self.bytes > self.max_bytes:
            raise ArchiveError(
                f"entry {name!r} brings it to {self.bytes:,} bytes, allowed are {self.max_bytes:,}"
            )
        return path


def unpack(
    archive: Path | Sequence[Path],
    folder: Path,
    *,
    max_bytes: int,
    max_files: int,
    suffixes: Collection[str],
    progress: bool = True,
) -> list[str]:
    """Unpack a zip, tar or tar.gz, given as one file or as its parts in order; return the files' paths.

    Only files with one of the `suffixes` (lower case, with the dot) are written, each of them whole or not
    at all. Files of a zip that a call before has written are kept if size and CRC are right.

    Raises `ArchiveError` for entries with absolute paths, `..`, backslashes, drive letters or control
    characters, links and devices, encrypted, overlapping and repeated entries, more than `max_files` entries
    (folders included) or `max_bytes` decompressed, for damaged archives, and if a file cannot be written.
    Of a zip nothing is written before all its entries were looked at.
    """
    parts = [archive] if isinstance(archive, Path) else list(archive)
    name = str(parts[0]) if len(parts) == 1 else f"{parts[0]} to {parts[-1].name}"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".unpacking.tmp"
    rules, written, others = _Rules(max_bytes, max_files), [], 0
    try:
        with (
            io.BufferedReader(_Joined(parts)) as file,
            tqdm(desc=parts[0].name, unit="file", disable=not progress) as bar,
        ):
            magic = file.peek(2)[:2]
            for entry in _zip(file, rules) if magic == b"PK" else _tar(file, magic == b"\x1f\x8b", rules):
                if entry.path.suffix.lower() not in suffixes:
                    others += 1
                    continue
                target = _target(folder, entry.path)
                if not _is_there(target, entry):
                    _write(entry, temporary)
                    temporary.replace(target)
                written.append(str(entry.path))
                bar.update()
    except ArchiveError as error:
        raise ArchiveError(f"{name}: {error}") from error
    except DAMAGED as error:
        raise ArchiveError(f"{name}: damaged or no zip or tar archive ({error}): get it again") from error
    except OSError as error:
        raise ArchiveError(
            f"cannot unpack {name} to {folder} ({error.strerror}: {error.filename or temporary})."
            " What is unpacked is kept: run it again, it goes on from there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    if others:
        log.info("%s: %d files that are no %s were left out", name, others, ", ".join(sorted(suffixes)))
    return written


def _target(folder: Path, path: PurePosixPath) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link that lay in the folder before would lead out of it.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise ArchiveError(f"entry {str(path)!r}: {target.parent} leads out of {folder}")
    return target


def _is_there(target: Path, entry: _Entry) -> bool:
    if entry.crc is None or not target.is_file() or target.stat().st_size != entry.size:
        return False
    crc = 0
    with target.open("rb") as content:
        while block := content.read(CHUNK):
            crc = zlib.crc32(block, crc)
    return crc == entry.crc


def _write(entry: _Entry, file: Path) -> None:
    size = 0
    with entry.open() as content, file.open("wb") as out:
        while block := content.read(CHUNK):
            size += len(block)
            if size > entry.size:
                break
            out.write(block)
    if size != entry.size:
        raise ArchiveError(f"entry {str(entry.path)!r} is not of the {entry.size:,} bytes it claims: damaged")


def _zip(file: BinaryIO, rules: _Rules) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        entries = []
        end = 0  # of the entry before
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            path = rules.check(info.orig_filename, info.file_size)
            mode = stat.S_IFMT(info.external_attr >> 16)
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"entry {info.filename!r} is a link or a device: allowed are files")
            if info.flag_bits & ENCRYPTED:
                raise ArchiveError(f"entry {info.filename!r} is encrypted")
            if info.compress_type not in METHODS:
                raise ArchiveError(
                    f"entry {info.filename!r} is compressed by method {info.compress_type}:"
                    " allowed are 0 (stored) and 8 (deflated)"
                )
            if info.header_offset < end:
                raise ArchiveError(f"entry {info.filename!r} overlaps with another one")
            end = info.header_offset + LOCAL_HEADER + info.compress_size
            if not info.is_dir():
                entries.append(_Entry(path, info.file_size, info.CRC, lambda i=info: archive.open(i)))
        yield from entries


def _tar(file: BinaryIO, compressed: bool, rules: _Rules) -> Iterator[_Entry]:
    stream: Any = _Budget(gzip.GzipFile(fileobj=file) if compressed else file)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = rules.check(member.name, member.size)
            stream.left = member.size + HEADERS  # its content and the next header
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise ArchiveError(f"entry {member.name!r} is a link or a device: allowed are files")
            yield _Entry(path, member.size, None, lambda m=member: archive.extractfile(m))
        # tarfile takes a header that it cannot read for the end, and gzip compares its CRC at the very end.
        rest = stream.last[len(stream.last) - (stream.count - archive.offset) :]
        while block := stream.read(CHUNK):
            rest += block
    if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise ArchiveError("damaged or cut off: it does not end with tar's closing zeros. Get it again")


class _Budget:
    """A stream that refuses to give more than `left` bytes, and remembers the last block."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self.stream = stream
        self.left = HEADERS
        self.count = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.left -= len(block)
        self.count += len(block)
        self.last = block or self.last
        if self.left < 0:
            raise ArchiveError(f"more than {HEADERS:,} bytes between two entries")
        return block


class _Joined(io.RawIOBase):
    """Several files read as one, without a copy."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._files = [self._stack.enter_context(path.open("rb", buffering=0)) for path in paths]
        self._starts = list(accumulate((path.stat().st_size for path in paths), initial=0))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise EOFError("it is shorter than it claims")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._starts, self._position) - 1
        if index == len(self._files):
            return 0
        file = self._files[index]
        file.seek(self._position - self._starts[index])
        left = self._starts[index + 1] - self._position
        count = file.readinto(memoryview(buffer)[:left]) or 0
        self._position += count
        return count

    def close(self) -> None:
        self._stack.close()
        super().close()
