"""What a sound file says of its own length, before libsndfile corrects it to what is there.

Untrusted input: every read is bounded, and what does not look as expected counts as saying nothing.
"""

import io
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

Part = bytes | tuple[int, int]  # bytes of our own, or from where to where in a file

MAX_CHUNKS = 1000
OGG_PAGE = 65_307  # bytes at most
ASF = bytes.fromhex("3026b2758e66cf11")  # of Windows Media
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True)
class Layout:
    """What the headers of a file say.

    ``stated`` are the bytes of samples that they promise (None: they do not say), ``present`` those that are
    there. ``unended``: the last page is missing, and nobody knows how much before it. ``parts``: what
    libsndfile has to be given in place of the file.
    """

    stated: int | None = None
    present: int = 0
    unended: bool = False
    parts: tuple[Part, ...] | None = None


def layout(file: BinaryIO, size: int) -> Layout:
    """Read what an open file says of its length."""
    head = _at(file, 0, 16)
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _riff(file, size, kind)
    if kind == b"riff":
        return _data_chunk(size, _w64_chunks(file, size), W64_DATA)
    if kind == b"FORM":
        return _data_chunk(size, _chunks(file, size, 12, ">4sI"), b"SSND", b"BODY")
    if kind == b"caff":
        return _caf(file, size)
    if kind in (b".snd", b"dns."):
        start, stated = struct.unpack(">II" if kind == b".snd" else "<II", head[4:12].ljust(8, b"\0"))
        return _compare(start, stated, size)
    if kind == ASF[:4]:
        return _asf(file, size)
    if kind == b"OggS":
        return Layout(unended=not _ogg_ends(file, size))
    return Layout()


def _compare(start: int, stated: int, size: int) -> Layout:
    present = max(0, size - start)
    return Layout() if _unknown(stated) else Layout(stated=stated, present=min(present, stated))


def _unknown(stated: int) -> bool:
    """Tell whether a size is what programs write that cannot go back to the header: 0, -1 or the largest."""
    return stated <= 0 or 0x7FFF0000 <= stated <= 0x80000000 or 0xFFFF0000 <= stated <= 0xFFFFFFFF


def _data_chunk(size: int, chunks: Iterator[tuple[bytes, int, int]], *names: bytes) -> Layout:
    for chunk, start, stated in chunks:
        if chunk in names:
            return _compare(start, stated, size)
    return Layout()


def _riff(file: BinaryIO, size: int, kind: bytes) -> Layout:
    order = ">" if kind == b"RIFX" else "<"
    long = None  # the true size of what does not fit 32 bits
    for chunk, start, stated in _chunks(file, size, 12, f"{order}4sI"):
        if chunk == b"ds64":
            long = int.from_bytes(_at(file, start + 8, 8), "little")
        if chunk == b"data":
            if long is not None and stated == 0xFFFFFFFF:
                return Layout(stated=long, present=max(0, min(size - start, long))) if long else Layout()
            whole = struct.unpack(f"{order}I", _at(file, 4, 4))[0]
            if stated == 0 and abs(size - 8 - whole) > 1 and size > start:
                # Written to a pipe, and libsndfile takes it at its word.
                length = struct.pack(f"{order}I", min(size - start, 0xFFFFFFFF))
                return Layout(parts=((0, start - 4), length, (start, size)))
            return _compare(start, stated, size)
    return Layout()


def _caf(file: BinaryIO, size: int) -> Layout:
    for chunk, start, stated in _chunks(file, size, 8, ">4sq"):
        if chunk == b"data" and stated > size - start > 0:  # which libsndfile refuses
            parts = ((0, start - 8), (size - start).to_bytes(8, "big"), (start, size))
            return Layout(stated=stated, present=size - start, parts=parts)
    return Layout()


def _asf(file: BinaryIO, size: int) -> Layout:
    head = _at(file, 0, 1 << 16)
    properties = head.find(ASF_PROPERTIES)
    if properties < 0:
        return Layout()
    return _compare(0, int.from_bytes(head[properties + 40 : properties + 48], "little"), size)


def _chunks(file: BinaryIO, size: int, at: int, form: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and stated size of each chunk."""
    length = struct.calcsize(form)
    for _ in range(MAX_CHUNKS):
        head = _at(file, at, length)
        if at >= size or len(head) < length:
            return
        name, stated = struct.unpack(form, head)
        yield name, at + length, stated
        at += length + max(0, stated) + (stated & 1 if form[-1] == "I" else 0)


def _w64_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    at = 40
    for _ in range(MAX_CHUNKS):
        head = _at(file, at, 24)
        if at >= size or len(head) < 24:
            return
        stated = struct.unpack("<q", head[16:])[0] - 24  # which counts these 24 bytes too
        yield head[:16], at + 24, stated
        at += 24 + (max(0, stated) + 7) // 8 * 8


def _ogg_ends(file: BinaryIO, size: int) -> bool:
    """Tell whether the last page is there and says that it is the last; also where no page is found."""
    first = max(0, size - 2 * OGG_PAGE)
    tail = _at(file, first, 2 * OGG_PAGE)
    page = tail.rfind(b"OggS\0")
    if page < 0 or len(tail) < page + 27:
        return page < 0
    segments = tail[page + 27 : page + 27 + tail[page + 26]]
    complete = len(segments) == tail[page + 26] and page + 27 + len(segments) + sum(segments) <= len(tail)
    return complete and bool(tail[page + 5] & 4)


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    return os.pread(file.fileno(), count, position) if 0 <= position < 1 << 62 else b""


class View(io.RawIOBase):
    """Parts of a file, and bytes of our own between them, as if they were a file."""

    def __init__(self, file: BinaryIO, parts: Sequence[Part]) -> None:
        self._descriptor, self._parts = file.fileno(), parts
        sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts]
        self._starts = [0, *accumulate(sizes)]
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        origin = (0, self._position, self._starts[-1])[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read as many bytes as fit, less only at the end."""
        done = 0
        while done < len(buffer) and self._position < self._starts[-1]:
            index = bisect_right(self._starts, self._position) - 1
            part, offset = self._parts[index], self._position - self._starts[index]
            count = min(len(buffer) - done, self._starts[index + 1] - self._position)
            if isinstance(part, bytes):
                piece = part[offset : offset + count]
            else:
                piece = os.pread(self._descriptor, count, part[0] + offset)
            if not piece:  # the file became shorter
                break
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done
