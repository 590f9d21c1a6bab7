"""Reading the samples of shards by position, with `pread`.

No memory maps: what they have touched counts as the process's memory, and a disk that fails would end the
process with SIGBUS instead of an error.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MOST_OPEN = 768  # descriptors; systems commonly allow a process 1024


class Shards:
    """The samples in .npy files of int16, of which at most 768 are open at a time; for any thread."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Check the files' headers; ValueError for one that does not hold int16 `(samples,)`."""
        self.files = tuple(files)
        headers = [_header(file) for file in self.files]
        self.lengths = tuple(samples for samples, _ in headers)
        self._starts = tuple(start for _, start in headers)
        self._lock = threading.Lock()  # no other thread may close what is being read
        self._open: OrderedDict[int, int] = OrderedDict()  # descriptor by shard, the last used at the end

    def __len__(self) -> int:
        return len(self.files)

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_open", {}).values():
            os.close(descriptor)

    def gather(self, spans: np.ndarray, out: np.ndarray) -> None:
        """Fill each row of `out`, int16 `(spans, width)`, with a span's samples and zeros after them.

        Spans are int64 `(spans, 3)`: shard, first sample, samples. Raises as `read` does.
        """
        for row, (shard, first, samples) in zip(out, spans.tolist(), strict=True):
            self.read(shard, first, row[:samples])
            row[samples:] = 0

    def read(self, shard: int, first: int, out: np.ndarray) -> None:
        """Fill `out`, int16 `(samples,)` without gaps, from sample `first` on.

        Raises OSError if the file cannot be read or has become shorter.
        """
        position = self._starts[shard] + 2 * first
        left = memoryview(out.data).cast("B")
        with self._lock:
            while left:
                got = os.preadv(self._descriptor(shard), [left], position)
                if got == 0:
                    raise OSError(
                        f"{self.files[shard]} ends at {position} bytes: it was longer when it was opened"
                    )
                left, position = left[got:], position + got

    def will_need(self, spans: np.ndarray) -> None:
        """Have the system fetch spans from the disk meanwhile: a store may be larger than memory."""
        with self._lock:
            for shard, first, samples in spans.tolist():
                position = self._starts[shard] + 2 * first
                os.posix_fadvise(self._descriptor(shard), position, 2 * samples, os.POSIX_FADV_WILLNEED)

    def _descriptor(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self.files[shard], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[shard]


def _header(file: Path) -> tuple[int, int]:
    """Return how many samples a shard has, and at which byte they start."""
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        if version != (1, 0):
            raise ValueError(f"{file.name} is in version {version} of the .npy format, not (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
        start = opened.tell()
    if dtype != np.dtype("<i2") or len(shape) != 1:
        held = "Python objects" if dtype.hasobject else f"{dtype} {shape}"
        raise ValueError(f"{file.name} holds {held}, not int16 (samples,)")
    if file.stat().st_size < start + 2 * shape[0]:
        raise ValueError(f"{file.name} is shorter than the {shape[0]} samples that its header promises")
    return shape[0], start
