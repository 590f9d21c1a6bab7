"""Parts of files, and bytes of our own between them, read as if they were one file, without a copy."""

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO

Part = bytes | tuple[BinaryIO, int, int]  # bytes of our own, or a file, from where to where


class View(io.RawIOBase):
    """The parts one after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        sizes = (len(part) if isinstance(part, bytes) else part[2] - part[1] for part in parts)
        self._starts = list(accumulate(sizes, initial=0))
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

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
                piece = os.pread(part[0].fileno(), count, part[1] + offset)
            if not piece:  # the file became shorter
                break
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done
