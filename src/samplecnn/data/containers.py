"""What a sound file says of its own length, before libsndfile corrects it to what is there.

Untrusted input: every read is bounded, and what does not look as expected counts as saying nothing.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from samplecnn.data.view import Part

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
        return _data_chunk(size, _chunks(file, size, 40, "<16sq", align=8, counted=24), W64_DATA)
    if kind == b"FORM":
        return _data_chunk(size, _chunks(file, size, 12, ">4sI", align=2), b"SSND")
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


def _data_chunk(size: int, chunks: Iterator[tuple[bytes, int, int]], name: bytes) -> Layout:
    for chunk, start, stated in chunks:
        if chunk == name:
            return _compare(start, stated, size)
    return Layout()


def _riff(file: BinaryIO, size: int, kind: bytes) -> Layout:
    order = ">" if kind == b"RIFX" else "<"
    long = None  # the true size of what does not fit 32 bits
    for chunk, start, stated in _chunks(file, size, 12, f"{order}4sI", align=2):
        if chunk == b"ds64":
            long = int.from_bytes(_at(file, start + 8, 8), "little")
        if chunk == b"data":
            if long is not None and stated == 0xFFFFFFFF:
                return Layout(stated=long, present=max(0, min(size - start, long))) if long else Layout()
            whole = struct.unpack(f"{order}I", _at(file, 4, 4))[0]
            if stated == 0 and abs(size - 8 - whole) > 1 and size > start:
                # Written to a pipe, and libsndfile takes it at its word.
                length = struct.pack(f"{order}I", min(size - start, 0xFFFFFFFF))
                return Layout(parts=((file, 0, start - 4), length, (file, start, size)))
            return _compare(start, stated, size)
    return Layout()


def _caf(file: BinaryIO, size: int) -> Layout:
    for chunk, start, stated in _chunks(file, size, 8, ">4sq"):
        if chunk == b"data" and stated > size - start > 0:  # which libsndfile refuses
            parts = ((file, 0, start - 8), (size - start).to_bytes(8, "big"), (file, start, size))
            return Layout(stated=stated, present=size - start, parts=parts)
    return Layout()


def _asf(file: BinaryIO, size: int) -> Layout:
    head = _at(file, 0, 1 << 16)
    properties = head.find(ASF_PROPERTIES)
    if properties < 0:
        return Layout()
    return _compare(0, int.from_bytes(head[properties + 40 : properties + 48], "little"), size)


def _chunks(
    file: BinaryIO, size: int, at: int, form: str, *, align: int = 1, counted: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and stated size of each chunk, less the bytes of its header that this counts."""
    length = struct.calcsize(form)
    for _ in range(MAX_CHUNKS):
        if at >= size or len(head := _at(file, at, length)) < length:
            return
        name, stated = struct.unpack(form, head)
        yield name, at + length, stated - counted
        at += length + -(-max(0, stated - counted) // align) * align


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
    return os.pread(file.fileno(), count, position)
