"""Store to batches: whole int16 batches gathered out of the shards by the training process itself.

No `torch.utils.data.DataLoader`: with one thread gathering whole batches there is nothing for it to do, its
worker processes are an order of magnitude slower here, and Lightning would warn of their absence, swap the
sampler under DDP and rebuild the loader to predict. Lightning takes any sized iterable, and calls
`set_epoch` on its `sampler`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.store import Part, Selection, Store


class Batch(NamedTuple):
    """Segments of one part of a split, with the annotations of the clips they are from."""

    waveforms: Tensor  # (batch, 59049): int16 on the host, float32 in [-1, 1) once on the device
    labels: Tensor  # (batch, tags) float32, 0 and 1
    clips: Tensor  # (batch,) int64: index of the clip within the part


class BatchIndices(Protocol):
    """Whatever says which segments make up the batches: a list of index arrays, or `EpochBatches`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


class EpochBatches:
    """Shuffled batches of segment indices; the order is a function of `seed` and epoch alone.

    The last, shorter batch is filled up from the beginning of the shuffled order (again and again, if there
    are fewer segments than a batch holds). With `world` processes, each takes every `world`-th batch from its
    `rank` on, and the order is filled up until all have the same number.

    With `per_clip`, an epoch has that many segments of each clip, drawn anew (all, where a clip has fewer):
    `segment_clip` says which clip each of the segments is from, in ascending order.
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
        # A generator on purpose: Lightning takes the iterator of a run's first epoch before it sets the epoch
        # (not 0 in a resumed run). So the order is made when the first batch is asked for.
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.segments)
        if self.segment_clip is not None and self.per_clip is not None:
            # The first few of each clip in an order of chance, and these in that order.
            by_clip = np.argsort(self.segment_clip[order], kind="stable")
            counts = np.bincount(self.segment_clip)
            place = np.arange(self.segments) - np.repeat(np.cumsum(counts) - counts, counts)
            order = order[np.sort(by_clip[place < self.per_clip])]
        batches = np.resize(order, (len(self) * self.world, self.batch_size))  # repeats the order as needed
        yield from batches[self.rank :: self.world]


class Batches:
    """Iterable over the batches of one part; `sampler` says which segments are in each."""

    batch_sampler = None  # Lightning looks for one beside a sampler

    def __init__(self, store: Store, part: Part, sampler: BatchIndices, *, pin_memory: bool = False) -> None:
        self.store, self.part, self.sampler, self.pin_memory = store, part, sampler, pin_memory

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        ahead: np.ndarray | None = None
        for segments in self.sampler:
            self.store.will_need(self.part.segment_spans[segments])  # comes in while `ahead` is worked on
            if ahead is not None:
                yield self.batch(ahead)
            ahead = segments
        if ahead is not None:
            yield self.batch(ahead)

    def batch(self, segments: np.ndarray) -> Batch:
        """Gather the segments of the part with these indices: `(batch,)` -> `Batch` on the host."""
        clips = self.part.segment_clip[segments]
        # Straight into pinned memory, which torch recycles once the copy to the device is through.
        shape = (len(segments), SEGMENT_SAMPLES)
        waveforms = torch.empty(shape, dtype=torch.int16, pin_memory=self.pin_memory)
        self.store.gather(self.part.segment_spans[segments], out=waveforms.numpy())
        labels = torch.from_numpy(self.part.labels[clips].astype(np.float32))
        if self.pin_memory:
            return Batch(waveforms, labels.pin_memory(), torch.from_numpy(clips).pin_memory())
        return Batch(waveforms, labels, torch.from_numpy(clips))


class SegmentDataModule(pl.LightningDataModule):
    """A store under one split and its top N tags; opened at once, so that a network can be built for `tags`.

    Training: every segment of every clip once per epoch, or `train_segments` of each clip, drawn anew for
    each epoch; shuffled, full batches only (`EpochBatches`).
    Validation, test and prediction (of the test part): every segment, or `test_segments` of each clip at even
    distances, in the order of the clips, the last batch short; under DDP every process goes through all.

    Raises `StoreError` as `Store.open` and `Store.select` do, and `ValueError` for numbers that cannot work:
    the network's head has a batch norm, which needs at least 2 segments to train on.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        split: str = "clean",
        top: int | None = 50,
        batch_size: int = 23,
        eval_batch_size: int = 40,
        seed: int = 0,
        train_segments: int | None = None,
        test_segments: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ValueError(f"batch_size is {batch_size}: allowed are 2, 3, ...")
        if eval_batch_size < 1:
            raise ValueError(f"eval_batch_size is {eval_batch_size}: allowed are 1, 2, ...")
        if seed < 0:
            raise ValueError(f"seed is {seed}: allowed are 0, 1, ...")
        for name, value in (("train_segments", train_segments), ("test_segments", test_segments)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: allowed are 1, 2, ... per clip, or None for all")
        self.store = Store.open(store)
        self.selection: Selection = self.store.select(split, top)
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.train_segments, self.test_segments = train_segments, test_segments

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in use, in the order of the label columns."""
        return self.selection.tags

    @property
    def parts(self) -> dict[str, Part]:
        """The parts "train", "valid" and "test" of the split in use."""
        return self.selection.parts

    def train_dataloader(self) -> Batches:
        """Shuffled batches of the training part, anew in every epoch."""
        segment_clip = self.parts["train"].segment_clip
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochBatches(
            len(segment_clip),
            self.batch_size,
            self.seed,
            rank=rank,
            world=world,
            segment_clip=segment_clip,
            per_clip=self.train_segments,
        )
        return self._batches("train", sampler)

    def val_dataloader(self) -> Batches:
        """Batches of the validation part in order."""
        return self._in_order("valid")

    def test_dataloader(self) -> Batches:
        """Batches of the test part in order."""
        return self._in_order("test")

    def predict_dataloader(self) -> Batches:
        """Batches of the test part in order."""
        return self._in_order("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale the waveforms to float32 in [-1, 1) on the device: half the bytes cross the bus."""
        return batch._replace(waveforms=batch.waveforms.float() / 32768)

    def _in_order(self, part: str) -> Batches:
        segments = evenly_spaced(self.parts[part].segment_clip, self.test_segments)
        starts = range(0, len(segments), self.eval_batch_size)
        return self._batches(part, [segments[start : start + self.eval_batch_size] for start in starts])

    def _batches(self, part: str, sampler: Sequence[np.ndarray] | EpochBatches) -> Batches:
        pin_memory = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return Batches(self.store, self.parts[part], sampler, pin_memory=pin_memory)


def evenly_spaced(segment_clip: np.ndarray, per_clip: int | None) -> np.ndarray:
    """Choose segments at even distances, `per_clip` of each clip (None, and of shorter ones: all): int64."""
    counts = np.bincount(segment_clip)
    chosen = counts if per_clip is None else np.minimum(counts, per_clip)
    number = np.arange(chosen.sum()) - np.repeat(np.cumsum(chosen) - chosen, chosen)
    first = np.repeat(np.cumsum(counts) - counts, chosen)
    # The middles of as many equal stretches: of ten segments, three are the second, sixth and ninth.
    within = (2 * number + 1) * np.repeat(counts, chosen) // (2 * np.repeat(chosen, chosen))
    indices: np.ndarray = first + within
    return indices
