"""Reading the samples of shards by position: with `pread`, and out of memory maps where that is safe.

Maps are about twice as fast while the files are in memory: nothing goes through the system but a look at the
file's size. But from a disk they wait for one page after the other (three to ten times as slow in random
order), what they have touched counts as the process's memory, all of a store counts against a limit on
address space, and a disk that fails ends the process with SIGBUS instead of an error.

So a shard is read with `pread` until as much has been read as it holds, which finds out whether the disk is
well and brings the shard into memory. It is mapped from then on, if the store takes at most half of the
memory that was available when it was opened and no limit is set on address space. Before a copy out of a map
the file's size is compared: a file that has become shorter is an error, unless that happens within the
microseconds of the copy.
"""

import mmap
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MOST_OPEN = 768  # descriptors; systems commonly allow 1024. A map takes two, and all maps three quarters
MEMORY = Path("/proc/meminfo")
# Of a container, in the second and the first version of control groups.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Shards:
    """The samples in .npy files of int16, open or mapped with at most 768 descriptors; for any thread."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Check the files' headers; ValueError for one that does not hold int16 `(samples,)`."""
        self.files = tuple(files)
        headers = [_header(file) for file in self.files]
        self.lengths = tuple(samples for samples, _ in headers)
        self._starts = tuple(start for _, start in headers)
        self._may_map = fits_into_memory(2 * sum(self.lengths))
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # a clip may be read while another thread gathers for training
        self._open: OrderedDict[int, int] = OrderedDict()  # descriptor by shard, the last used at the end
        self._maps: dict[int, tuple[int, np.ndarray]] = {}  # descriptor and samples by shard
        self._unread = list(self.lengths)  # samples still to be read before a shard is mapped

    def __len__(self) -> int:
        return len(self.files)

    @property
    def mapped(self) -> int:
        """How many of the shards are read out of memory maps by now."""
        return len(self._maps)

    def __getstate__(self) -> dict[str, object]:
        return {key: self.__dict__[key] for key in ("files", "lengths", "_starts", "_may_map")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_open", {}).values():
            os.close(descriptor)
        for descriptor, _ in self.__dict__.get("_maps", {}).values():
            os.close(descriptor)

    def gather(self, spans: np.ndarray, out: np.ndarray) -> None:
        """Fill each row of `out`, int16 `(spans, width)`, with a span's samples and zeros after them.

        Spans are int64 `(spans, 3)`: shard, first sample, samples. Raises as `read` does.
        """
        rows = spans.tolist()
        with self._lock:
            pieces = self._pieces(rows, out.shape[1]) if out.flags.c_contiguous else None
            if pieces:
                np.concatenate(pieces, out=out.reshape(-1))  # faster than row by row
                return
        for row, (shard, first, samples) in zip(out, rows, strict=True):
            self.read(shard, first, row[:samples])
            row[samples:] = 0

    def read(self, shard: int, first: int, out: np.ndarray) -> None:
        """Fill `out`, int16 `(samples,)` without gaps, from sample `first` on.

        Raises OSError if the file cannot be read or has become shorter.
        """
        with self._lock:
            mapped = self._mapped(shard, first, len(out))
            if mapped is not None:
                out[:] = mapped
                return
            position = self._starts[shard] + 2 * first
            left = memoryview(out.data).cast("B")
            while left:
                got = os.preadv(self._descriptor(shard), [left], position)
                if got == 0:
                    raise OSError(
                        f"{self.files[shard]} ends at {position} bytes: it was longer when it was opened"
                    )
                left, position = left[got:], position + got
            self._unread[shard] -= len(out)
            if self._unread[shard] <= 0 and self._may_map:
                self._map(shard)

    def will_need(self, spans: np.ndarray) -> None:
        """Have the system fetch spans from the disk meanwhile, but for shards that are mapped by now."""
        with self._lock:
            if len(self._maps) == len(self.files):
                return
            for shard, first, samples in spans.tolist():
                if shard not in self._maps:
                    position = self._starts[shard] + 2 * first
                    os.posix_fadvise(self._descriptor(shard), position, 2 * samples, os.POSIX_FADV_WILLNEED)

    def _mapped(self, shard: int, first: int, samples: int) -> np.ndarray | None:
        """Return samples of a shard that is mapped and still as long as it was; else None."""
        if shard not in self._maps:
            return None
        descriptor, held = self._maps[shard]
        if os.lseek(descriptor, 0, os.SEEK_END) < self._starts[shard] + 2 * (first + samples):
            return None
        return held[first : first + samples]

    def _pieces(self, rows: Sequence[Sequence[int]], width: int) -> list[np.ndarray] | None:
        """Return the contents of rows one after the other; None if not all are in mapped shards."""
        pieces = []
        for shard, first, samples in rows:
            piece = self._mapped(shard, first, samples)
            if piece is None:
                return None
            pieces.append(piece)
            if samples < width:
                pieces.append(np.zeros(width - samples, np.int16))
        return pieces

    def _descriptor(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            self._make_room()
            self._open[shard] = os.open(self.files[shard], os.O_RDONLY | os.O_CLOEXEC)
        return self._open[shard]

    def _make_room(self) -> None:
        while len(self._open) + 2 * len(self._maps) >= MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])

    def _map(self, shard: int) -> None:
        """Map a shard; once the system refuses, it and all that are not mapped yet stay as they are."""
        if shard in self._maps or 2 * (len(self._maps) + 1) > 3 * MOST_OPEN // 4:
            return
        descriptor = self._descriptor(shard)
        self._make_room()  # for the map's own copy of it
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            samples = np.frombuffer(mapped, "<i2", self.lengths[shard], self._starts[shard])
        except (OSError, ValueError):
            self._may_map = False
            return
        self._maps[shard] = self._open.pop(shard), samples


def fits_into_memory(
    size: int, memory: Path = MEMORY, limits: Sequence[Path] = MEMORY_LIMITS, share: float = 0.5
) -> bool:
    """Say whether `size` bytes of files are at most a share of the memory that may be used for them.

    That is what the system has available, or a container is limited to; with a limit on the process's address
    space, and where the system does not say, the answer is no.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return False
    try:
        told = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        available = [1024 * int(told["MemAvailable"].split()[0])]
    except (OSError, LookupError, ValueError):
        return False
    for file in limits:
        if file.is_file() and (limit := file.read_text().strip()).isdecimal():  # "max": none
            available.append(int(limit))
    return size <= share * min(available)


def _header(file: Path) -> tuple[int, int]:
    """Return how many samples a shard has, and at which byte they start."""
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        if version not in HEADERS:
            raise ValueError(f"{file.name} is in version {version} of the .npy format, not (1, 0) or (2, 0)")
        shape, _, dtype = HEADERS[version](opened)
        start = opened.tell()
    if dtype != np.dtype("<i2") or len(shape) != 1:
        held = "Python objects" if dtype.hasobject else f"{dtype} {shape}"
        raise ValueError(f"{file.name} holds {held}, not int16 (samples,)")
    if file.stat().st_size < start + 2 * shape[0]:
        raise ValueError(f"{file.name} is shorter than the {shape[0]} samples that its header promises")
    return shape[0], start
