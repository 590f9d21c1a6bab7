"""Store to batches: whole int16 batches gathered by the training process itself.

No `torch.utils.data.DataLoader`: its worker processes, which collate single items, are an order of magnitude
slower than gathering whole batches, and Lightning would swap its sampler under DDP and rebuild it to predict.
Lightning takes any sized iterable, and calls `set_epoch` on its `sampler`.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.batches import Batch, Batches, EpochBatches, evenly_spaced, random_chunks
from samplecnn.data.few import few
from samplecnn.data.resampling import BatchResampler, samples_before
from samplecnn.data.resident import Resident, ResidentBatches, ResidentPart, keeps_resident, part_bytes
from samplecnn.data.store import Part, Selection, Store
from samplecnn.errors import UserError

log = logging.getLogger(__name__)

AHEAD = 2  # batches that a thread gathers ahead for a GPU
# Segments of 59,049 samples per batch of evaluation; of longer ones as many as have these samples.
EVAL_BATCH = 40  # on a CPU, more gain nothing
EVAL_BATCH_GPU = 128  # keep a GPU busy; the widest feature map takes 1.3 GB in 32 bits

Loader = Batches | ResidentBatches


class SegmentDataModule(pl.LightningDataModule):
    """A store under one split and its top N tags. It is opened at once, as a network is built for `tags`.

    Segments have `segment_samples` at `sample_rate` Hz (None: the store's own rate). From a store of another
    rate they are resampled on the device, each by itself.

    Training: in each epoch every segment of every clip, or `train_segments` random ones of each clip, or
    `random_chunks` of each clip that begin anywhere in it, in random order and full batches (`EpochBatches`).
    With `train_clips`, so many of the training part's clips are all that it has (`few`).
    Validation and test: every segment, or `test_segments` of each clip at even distances, in the order of
    the clips; the last batch is short.
    Of several processes, the one of rank r takes batches r, r + world, ... of these, so that a batch is the
    same whoever computes it; who has none left takes the last again, until all have the same number.
    `eval_batch_size` is 128 on a GPU and 40 on a CPU by default, fewer of longer segments.

    On a GPU the samples are kept in its memory, each part from its first use on, if `resident` is True, or
    "auto" and all parts fit (`resident.fits`). Otherwise, and for random chunks, a thread gathers batches
    ahead into pinned memory.
    On a CPU `resident` means nothing: the system keeps files in memory anyway. The batches are the same.

    Raises `StoreError` as `Store.open` and `Store.select` do, and `UserError` for numbers that cannot work:
    the network's head has a batch norm, which needs at least 2 segments to train on. With `resident` True,
    asking for batches raises `UserError` where the samples do not fit.
    """

    def __init__(
        self,
        store: str | Path,
        *,
        split: str = "clean",
        top: int | None = 50,
        batch_size: int = 23,
        eval_batch_size: int | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        segment_samples: int = SEGMENT_SAMPLES,
        train_clips: int | None = None,
        train_segments: int | None = None,
        random_chunks: int | None = None,
        test_segments: int | None = None,
        resident: Resident = "auto",
    ) -> None:
        super().__init__()
        for name, value, least, what in (
            ("batch_size", batch_size, 2, ""),
            ("eval_batch_size", eval_batch_size, 1, ""),
            ("seed", seed, 0, ""),
            ("train_segments", train_segments, 1, " per clip, or None for all"),
            ("random_chunks", random_chunks, 1, " per clip, or None for all"),
            ("test_segments", test_segments, 1, " per clip, or None for all"),
        ):
            if value is not None and value < least:
                raise UserError(f"{name} is {value}: allowed are {least}, {least + 1}, ...{what}")
        if train_segments is not None and random_chunks is not None:
            raise UserError(
                "train_segments and random_chunks both choose what an epoch has of a clip: one of them"
            )
        if resident not in ("auto", True, False):
            raise UserError(f"resident is {resident!r}: allowed are 'auto', True and False")
        self.store = Store.open(store)
        stored, self._resampler = segment_samples, None
        if sample_rate is not None and sample_rate != self.store.sample_rate:
            stored = samples_before(segment_samples, self.store.sample_rate, sample_rate)
            self._resampler = BatchResampler(self.store.sample_rate, sample_rate, segment_samples)
        self.selection: Selection = self.store.select(split, top, stored)
        if train_clips is not None:
            parts = {**self.parts, "train": few(self.parts["train"], train_clips, seed)}
            self.selection = replace(self.selection, parts=parts)
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.train_segments, self.test_segments = train_segments, test_segments
        self.random_chunks = random_chunks
        self.resident = resident
        self._keeps: dict[torch.device, bool] = {}  # whether samples are kept on a device
        self._kept: dict[tuple[str, torch.device], ResidentPart] = {}

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in use, in the order of the label columns."""
        return self.selection.tags

    @property
    def parts(self) -> dict[str, Part]:
        """The parts "train", "valid" and "test" of the split in use."""
        return self.selection.parts

    @property
    def device(self) -> torch.device:
        """Where batches go: the device of the trainer at work, or the CPU."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def train_dataloader(self) -> Loader:
        """Shuffled batches of the training part, anew in every epoch."""
        part, chunks = self.parts["train"], self.random_chunks
        segment_clip = part.segment_clip if chunks is None else np.repeat(np.arange(len(part.clips)), chunks)
        rank, world = self._place()
        sampler = EpochBatches(
            len(segment_clip),
            self.batch_size,
            self.seed,
            rank=rank,
            world=world,
            segment_clip=segment_clip,
            per_clip=self.train_segments,
        )
        if chunks is None:
            return self._batches("train", sampler)
        return self._chunks(replace(part, segment_clip=segment_clip), sampler, chunks)

    def val_dataloader(self) -> Loader:
        """Batches of the validation part in order."""
        return self._in_order("valid")

    def test_dataloader(self) -> Loader:
        """Batches of the test part in order."""
        return self._in_order("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the device, but for the segments' indices: random numbers are drawn on the host."""
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(segments=batch.segments)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make of the batch what the network hears, on the device: half the bytes cross the bus."""
        return batch._replace(waveforms=self.heard(batch.waveforms))

    def heard(self, stored: Tensor) -> Tensor:
        """Return int16 segments `(batch, samples)` of the store as float32 in [-1, 1) at the wanted rate."""
        return self.resampled(stored.float() / 32768)

    def resampled(self, waveforms: Tensor) -> Tensor:
        """Return segments `(batch, samples)` at the store's rate at the wanted one."""
        return self._resampler(waveforms) if self._resampler else waveforms

    def in_order(self, part: str, device: torch.device | None = None) -> list[np.ndarray]:
        """The segments of each batch of evaluation, all processes' together, by index."""
        segments = evenly_spaced(self.parts[part].segment_clip, self.test_segments)
        size = self.evaluated_at_once(part, device)
        return [segments[start : start + size] for start in range(0, len(segments), size)]

    def evaluated_at_once(self, part: str, device: torch.device | None = None) -> int:
        """The most segments in a batch of evaluation on a device, by default the trainer's."""
        most = EVAL_BATCH_GPU if (device or self.device).type == "cuda" else EVAL_BATCH
        longer = max(1.0, self.parts[part].segment_samples / SEGMENT_SAMPLES)
        return self.eval_batch_size or max(1, int(most / longer))

    def _in_order(self, part: str) -> Loader:
        batches = self.in_order(part)
        rank, world = self._place()
        number = -(-len(batches) // world)
        return self._batches(part, [*batches, *batches[-1:] * world][rank::world][:number])

    def _place(self) -> tuple[int, int]:
        """Return rank and number of the processes that share the batches."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batches(self, name: str, sampler: Sequence[np.ndarray] | EpochBatches) -> Loader:
        device, part = self.device, self.parts[name]
        if self._keep(device):
            if (name, device) not in self._kept:
                progress = sys.stderr.isatty() and self._speaks()
                self._kept[name, device] = ResidentPart(self.store, part, device, progress=progress)
            return ResidentBatches(self._kept[name, device], sampler)
        return Batches(self.store, part, sampler, **self._ahead())

    def _chunks(self, part: Part, sampler: EpochBatches, per_clip: int) -> Batches:
        """Return batches of chunks of a part's clips, at other places in each epoch."""
        clips = self.store.clip_spans[part.clips]

        def spans() -> np.ndarray:
            return random_chunks(clips, per_clip, part.segment_samples, seed=self.seed, epoch=sampler.epoch)

        return Batches(self.store, part, sampler, spans=spans, **self._ahead())

    def _ahead(self) -> dict[str, Any]:
        gpu = self.device.type == "cuda"
        return {"pin_memory": gpu, "ahead": AHEAD if gpu else 0}

    def _keep(self, device: torch.device) -> bool:
        """Decide once per device of a trainer whether the samples are kept there, and say so."""
        if self.trainer is None:
            return False
        if device not in self._keeps:
            size = sum(map(part_bytes, self.parts.values()))
            self._keeps[device] = keeps_resident(self.resident, size, device)
            if self._speaks():
                how = f"kept in the memory of {device}" if self._keeps[device] else "read from files"
                log.info("%.1f GB of samples, %s", size / 1e9, how)
        return self._keeps[device]

    def _speaks(self) -> bool:
        return self.trainer is not None and self.trainer.is_global_zero
