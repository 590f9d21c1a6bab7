"""Reading the samples of shards by position, with `pread`, not through memory maps.

Maps are twice as fast while all of a store is in memory, where either is far faster than any network. But
from a disk they wait for one page after the other (2.6 times as slow in random order), what they have
touched counts as the process's memory, all of a store counts against a limit on address space, and a disk
that fails ends the process with SIGBUS instead of an error. So a store may be larger than memory.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MOST_OPEN = 256  # files; systems commonly allow 1024


class Shards:
    """The samples in .npy files of int16, of which at most 256 are open at a time; for one thread."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Check the files' headers; ValueError for one that does not hold int16 `(samples,)`."""
        self.files = tuple(files)
        headers = [_header(file) for file in self.files]
        self.lengths = tuple(samples for samples, _ in headers)
        self._starts = tuple(start for _, start in headers)
        self._open: OrderedDict[int, int] = OrderedDict()  # descriptor by shard, the last used at the end

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_open", {}).values():
            os.close(descriptor)

    def read(self, shard: int, first: int, out: np.ndarray) -> None:
        """Fill `out`, int16 `(samples,)` without gaps, from sample `first` on.

        Raises OSError if the file cannot be read or has become shorter.
        """
        position = self._starts[shard] + 2 * first
        left = memoryview(out.data).cast("B")
        while left:
            got = os.preadv(self._descriptor(shard), [left], position)
            if got == 0:
                raise OSError(
                    f"{self.files[shard]} ends at {position} bytes: it was longer when it was opened"
                )
            left, position = left[got:], position + got

    def will_need(self, shard: int, first: int, samples: int) -> None:
        """Have the system fetch samples from the disk meanwhile."""
        position = self._starts[shard] + 2 * first
        os.posix_fadvise(self._descriptor(shard), position, 2 * samples, os.POSIX_FADV_WILLNEED)

    def _descriptor(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            if len(self._open) == MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self.files[shard], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[shard]


def _header(file: Path) -> tuple[int, int]:
    """Return how many samples a shard has, and at which byte they start."""
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if array.dtype != np.dtype("<i2") or array.ndim != 1:
        raise ValueError(f"{file.name} holds {array.dtype} {array.shape}, not int16 (samples,)")
    return len(array), array.offset
