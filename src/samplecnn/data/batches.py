"""Which segments make up the batches of an epoch, and the batches as they are gathered on the host."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from samplecnn.data.prefetch import prefetched
from samplecnn.data.store import Part, Store


class Batch(NamedTuple):
    """Segments of one part of a split, with the annotations of the clips they are from."""

    waveforms: Tensor  # (batch, samples): int16 as loaded, float32 in [-1, 1) once they are on the device
    labels: Tensor  # (batch, tags) float32, 0 and 1
    clips: Tensor  # (batch,) int64: index of the clip within the part
    segments: Tensor  # (batch,) int64: index of the segment (or random chunk) within the part; on the host


class BatchIndices(Protocol):
    """The segments of each batch, by index: a list of int64 arrays, or `EpochBatches`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


class EpochBatches:
    """The segments of each batch of an epoch, in random order: a function of `seed` and epoch alone.

    All batches are full: the last one is filled up from the beginning of the order, more than once if a batch
    holds more segments than there are. With `world` processes, the one of `rank` r takes batches r,
    r + world, ...; the order is filled up until all have the same number.

    With `per_clip`, an epoch has so many random segments of each clip, others in each epoch (of a clip that
    has fewer: all). `segment_clip` then has the clip of each segment, in ascending order.
    """

    def __init__(
        self,
        segments: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        segment_clip: np.ndarray | None = None,
        per_clip: int | None = None,
    ) -> None:
        self.segments, self.batch_size, self.seed = segments, batch_size, seed
        self.rank, self.world = rank, world
        self.segment_clip, self.per_clip = segment_clip, per_clip
        self.examples = segments
        if segment_clip is not None and per_clip is not None:
            self.examples = int(np.minimum(np.bincount(segment_clip), per_clip).sum())
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; Lightning calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.examples // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[np.ndarray]:
        # A generator, so that the order is made when the first batch is asked for: Lightning takes the
        # iterator of a run's first epoch before it sets the epoch, which is not 0 in a resumed run.
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.segments)
        if self.segment_clip is not None and self.per_clip is not None:
            # Of each clip the segments that come first in the random order, still in that order.
            by_clip = np.argsort(self.segment_clip[order], kind="stable")
            counts = np.bincount(self.segment_clip)
            place = np.arange(self.segments) - np.repeat(np.cumsum(counts) - counts, counts)
            order = order[np.sort(by_clip[place < self.per_clip])]
        batches = np.resize(order, (len(self) * self.world, self.batch_size))  # repeats the order as needed
        yield from batches[self.rank :: self.world]


class Resumable:
    """Batches that go on within a pass: Lightning keeps their state in its checkpoints."""

    batch_sampler = None  # Lightning looks for one beside a sampler

    def __init__(self, sampler: BatchIndices) -> None:
        self.sampler = sampler
        self._given = 0  # batches of this pass so far
        self._first = 0  # batches that the next pass leaves out

    def __len__(self) -> int:
        return len(self.sampler)

    def indices(self) -> Iterator[np.ndarray]:
        """Begin a pass: yield the segment indices of its batches."""
        self._given, self._first = self._first, 0
        yield from islice(self.sampler, self._given, None)

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the pass have been given out; 0 at its end."""
        return {"given": self._given % len(self)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Have the next pass begin after the batches that were given out, if that was not all."""
        self._first = state_dict["given"] % len(self)


class Batches(Resumable):
    """Iterable over batches read from the store; `sampler` has the segments of each.

    `pin_memory` puts them where a GPU can fetch them from by itself. `ahead` is how many batches a thread
    gathers before they are asked for, so that a GPU need not wait; a CPU gains nothing
    (`experiments/speed/`). The thread makes no CUDA calls, which would break the capture of a graph. `spans`
    gives the place of each segment in the store, anew for every pass; by default it is the part's.
    """

    def __init__(
        self,
        store: Store,
        part: Part,
        sampler: BatchIndices,
        *,
        pin_memory: bool = False,
        ahead: int = 0,
        spans: Callable[[], np.ndarray] | None = None,
    ) -> None:
        super().__init__(sampler)
        self.store, self.part = store, part
        self.spans = spans or (lambda: part.segment_spans)
        self.pin_memory, self.ahead = pin_memory, ahead

    def __iter__(self) -> Iterator[Batch]:
        batches = prefetched(self._jobs(), self.ahead) if self.ahead else (job() for job in self._jobs())
        for batch in batches:
            self._given += 1
            yield batch

    def _jobs(self) -> Iterator[Callable[[], Batch]]:
        nothing = np.empty(0, dtype=np.int64)
        spans = self.spans()
        for segments, following in pairwise(chain(self.indices(), [nothing])):
            yield partial(self._fill, self._empty(len(segments)), segments, spans[segments], spans[following])

    def _empty(self, size: int) -> Batch:
        # New memory for each batch, so that none is overwritten while it is in use. It costs little: torch
        # uses pinned memory again once it is copied to the device, and malloc what has been freed.
        return Batch(
            torch.empty((size, self.part.segment_samples), dtype=torch.int16, pin_memory=self.pin_memory),
            torch.empty((size, self.part.labels.shape[1]), dtype=torch.float32, pin_memory=self.pin_memory),
            torch.empty(size, dtype=torch.int64, pin_memory=self.pin_memory),
            torch.empty(size, dtype=torch.int64),
        )

    def _fill(self, batch: Batch, segments: np.ndarray, spans: np.ndarray, following: np.ndarray) -> Batch:
        """Gather segments of the part into `batch`, while the system fetches the spans that follow."""
        self.store.shards.will_need(following)
        self.store.gather(spans, out=batch.waveforms.numpy())
        clips = self.part.segment_clip[segments]
        batch.clips.numpy()[:] = clips
        batch.labels.numpy()[:] = self.part.labels[clips]
        batch.segments.numpy()[:] = segments
        return batch


def random_chunks(
    clip_spans: np.ndarray, per_clip: int, samples: int, *, seed: int, epoch: int
) -> np.ndarray:
    """Return spans of `per_clip` chunks of `samples` in each clip, at random places: int64 `(chunks, 3)`.

    They are a function of seed, epoch and clip. `clip_spans`, int64 `(clips, 3)`, has each clip's shard,
    first sample and samples; of a clip shorter than a chunk all is taken.
    """
    spans = np.repeat(clip_spans, per_clip, axis=0)
    room = np.maximum(spans[:, 2] - samples, 0)
    share = np.random.default_rng((seed, epoch, 1)).random(len(spans))
    spans[:, 1] += (share * (room + 1)).astype(np.int64)
    spans[:, 2] = np.minimum(spans[:, 2], samples)
    return spans


def evenly_spaced(segment_clip: np.ndarray, per_clip: int | None) -> np.ndarray:
    """Choose `per_clip` segments at even distances of each clip (None, or a clip has fewer: all): int64."""
    counts = np.bincount(segment_clip)
    chosen = counts if per_clip is None else np.minimum(counts, per_clip)
    number = np.arange(chosen.sum()) - np.repeat(np.cumsum(chosen) - chosen, chosen)
    first = np.repeat(np.cumsum(counts) - counts, chosen)
    # The middles of as many equal stretches: of ten segments, three are the second, sixth and ninth.
    within = (2 * number + 1) * np.repeat(counts, chosen) // (2 * np.repeat(chosen, chosen))
    indices: np.ndarray = first + within
    return indices
