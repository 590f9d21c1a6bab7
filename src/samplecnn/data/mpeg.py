"""Where the frames of an MP3 file lie, and how many there are: what its headers say of that is often a guess.

libsndfile estimates the length of an MP3 without a length header (Xing, Info, VBRI) from its first frame and
its size, reads no further than that, and gives up at tags or rubbish between frames. So the frames are
counted here, which takes a small part of the time to decode them.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from samplecnn.data.view import Part

CHUNK = 1 << 20  # bytes read at once
IN_A_ROW = 3  # frames that have to follow each other before rubbish is taken for audio
MAX_RUBBISH = 1 << 24  # bytes searched for the next frame
MAX_RANGES = 10_000
ID3V1 = 128  # bytes; mpg123 knows it
BIT_RATES = {  # kbit/s, by (MPEG 1?, layer); files of layer I are left to libsndfile alone
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class Header(NamedTuple):
    """What the four bytes in front of a frame say."""

    size: int  # bytes, these four included
    samples: int  # per channel
    rate: int  # Hz
    layer: int
    side: int  # bytes of side information of layer III, after which Xing stands
    kind: int  # the same in all frames of a stream: its version, layer and rate


@dataclass(frozen=True)
class Frames:
    """The frames of a file.

    ``count`` are those found, ``stated`` those that a length header promises (None: there is none);
    ``ranges`` the bytes where they lie, the frame of the length header not included, which lies in ``xing``.
    """

    first: Header
    count: int
    stated: int | None
    ranges: list[tuple[int, int]]
    xing: bytes
    other: bool  # goes on with frames of another rate or layer, which are not counted
    plain: bool  # libsndfile finds all that is here by itself

    def parts(self, file: BinaryIO) -> list[Part]:
        """Return what of the file makes one of nothing but a true length header and the frames."""
        length = sum(end - start for start, end in self.ranges)
        head = self.xing
        at = 4 + self.first.side
        if head[at : at + 4] in (b"Xing", b"Info") and head[at + 7] & 3 == 3:  # has frames and bytes
            head = head[: at + 8] + _big(self.count) + _big(len(head) + length) + head[at + 16 :]
        elif self.first.layer == 3:
            head = self._own_xing(length)
        frames = [(file, *place) for place in self.ranges]
        return [head, *frames] if self.first.layer == 3 else [*frames]

    def _own_xing(self, length: int) -> bytes:
        start = bytearray(self.xing[:4])
        start[1] |= 1  # no checksum
        start[2] = start[2] & 0x0F | 0x80  # a bit rate at which the frame has space for it
        header = parse(bytes(start))
        assert header is not None
        body = bytes(self.first.side) + b"Xing" + _big(3) + _big(self.count) + _big(header.size + length)
        return (bytes(start) + body).ljust(header.size, b"\0")


def scan(descriptor: int, size: int, max_seconds: float | None = None) -> Frames | None:
    """Find the frames of an open file of ``size`` bytes, of its first ``max_seconds`` at least.

    Returns None for what is no MPEG audio, and where the size of frames is not said ("free format").
    """
    file = _Reader(descriptor, size)
    start = file.after_tags(0)
    position, first = _resync(file, start)
    if first is None:
        return None
    leading_rubbish = position != start
    enough = float("inf") if max_seconds is None else max_seconds * first.rate / first.samples + IN_A_ROW
    xing = file.at(position, first.size)
    stated = _stated(xing, first)
    if stated is not None:
        position += first.size
    count, sizes, other = 0, set[int](), False
    ranges: list[tuple[int, int]] = []
    begin = position
    while count < enough:
        header = parse(file.at(position, 4))
        if header is not None and header.kind == first.kind and position + header.size <= size:
            count += 1
            sizes.add(header.size)
            position += header.size
            continue
        if position > begin:
            ranges.append((begin, position))
        position, header = _resync(file, position)
        other = header is not None and header.kind != first.kind
        if header is None or other or len(ranges) >= MAX_RANGES:
            break
        begin = position
    else:
        ranges.append((begin, position))
    varies = max(sizes, default=0) - min(sizes, default=0) > 1  # padding is one byte
    rest = size - ranges[-1][1] if ranges and count < enough else 0
    tidy = len(ranges) == 1 and rest <= max(ID3V1, first.size) and not leading_rubbish
    tidy = tidy and xing[36:40] != b"VBRI"  # which libsndfile does not know
    right = not varies if stated is None else count >= enough or abs(stated - count) <= 1
    return Frames(first, count, stated, ranges, xing, other, tidy and right)


@lru_cache(maxsize=1024)
def parse(four: bytes) -> Header | None:
    """Read the header of a frame; None if it is none, or does not say how long its frame is."""
    if len(four) < 4 or four[0] != 0xFF or four[1] < 0xE0:
        return None
    version, layer = four[1] >> 3 & 3, 4 - (four[1] >> 1 & 3)
    rate_index, bits = four[2] >> 2 & 3, four[2] >> 4
    if version == 1 or layer not in (2, 3) or rate_index == 3 or bits in (0, 15):
        return None
    mpeg1 = version == 3
    rate = SAMPLE_RATES[version][rate_index]
    bit_rate = BIT_RATES[mpeg1, layer][bits] * 1000
    padding = four[2] >> 1 & 1
    mono = four[3] >> 6 == 3
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    kind = four[1] >> 1 << 8 | rate_index
    samples = 1152 if mpeg1 or layer == 2 else 576
    return Header(samples // 8 * bit_rate // rate + padding, samples, rate, layer, side, kind)


def _resync(file: "_Reader", position: int) -> tuple[int, Header | None]:
    """Find the next place where several frames of one kind follow each other; None if there is none."""
    end = min(file.size, position + MAX_RUBBISH)
    while (position := file.find(0xFF, position)) < end:
        header = parse(file.at(position, 4))
        at, row = position, 0
        while row < IN_A_ROW and header is not None:
            follows = parse(file.at(at, 4))
            if follows is None or follows.kind != header.kind:
                break
            at, row = at + follows.size, row + 1
        # At the end of a file fewer have to do, if they end where it does.
        if header is not None and (row == IN_A_ROW or (row and at == file.size)):
            return position, header
        position += 1
    return file.size, None


def _stated(frame: bytes, header: Header) -> int | None:
    at = 4 + header.side
    if header.layer == 3 and frame[at : at + 4] in (b"Xing", b"Info"):
        return int.from_bytes(frame[at + 8 : at + 12], "big") if frame[at + 7] & 1 else None
    if header.layer == 3 and frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def _big(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "big")


class _Reader:
    """Bytes of a file, read in large pieces."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self.size = descriptor, size
        self._start, self._bytes = 0, b""

    def at(self, position: int, count: int) -> bytes:
        """Return up to ``count`` bytes from a position on."""
        offset = position - self._start
        if offset < 0 or offset + count > len(self._bytes):
            self._start, self._bytes = position, os.pread(self._descriptor, max(count, CHUNK), position)
            offset = 0
        return self._bytes[offset : offset + count]

    def find(self, byte: int, position: int) -> int:
        """Return where a byte comes next, or the size of the file."""
        while position < self.size:
            self.at(position, 1)
            if not self._bytes:  # the file became shorter
                break
            found = self._bytes.find(byte, position - self._start)
            if found >= 0:
                return self._start + found
            position = self._start + len(self._bytes)
        return self.size

    def after_tags(self, position: int) -> int:
        """Pass over ID3v2 tags (a cover can be megabytes of anything)."""
        while (head := self.at(position, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
            length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            position += 10 + length
        return position
