"""Store to batches: whole int16 batches gathered by the training process itself.

No `torch.utils.data.DataLoader`: its worker processes, which collate single items, are an order of magnitude
slower than gathering whole batches, and Lightning would swap its sampler under DDP and rebuild it to predict.
Lightning takes any sized iterable, and calls `set_epoch` on its `sampler`.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from samplecnn.data.batches import Batch, Batches, EpochBatches, evenly_spaced
from samplecnn.data.resident import (
    SEGMENT_BYTES,
    Resident,
    ResidentBatches,
    ResidentPart,
    keeps_resident,
)
from samplecnn.data.store import Part, Selection, Store
from samplecnn.errors import UserError

__all__ = ["Batch", "SegmentDataModule"]

log = logging.getLogger(__name__)

AHEAD = 2  # batches that a thread gathers ahead for a GPU
EVAL_BATCH = 40  # segments per batch of evaluation: on a CPU, more gain nothing
EVAL_BATCH_GPU = 128  # keep a GPU busy; the widest feature map takes 1.3 GB in 32 bits

Loader = Batches | ResidentBatches


class SegmentDataModule(pl.LightningDataModule):
    """A store under one split and its top N tags. It is opened at once, as a network is built for `tags`.

    Training: in each epoch every segment of every clip, or `train_segments` random ones of each clip, in
    random order and full batches (`EpochBatches`).
    Validation, test, and prediction of the test part: every segment, or `test_segments` of each clip at even
    distances, in the order of the clips; the last batch is short.
    Of several processes, the one of rank r takes batches r, r + world, ... of these, so that a batch is the
    same whoever computes it; who has none left takes the last again, until all have the same number.
    `eval_batch_size` is 128 on a GPU and 40 on a CPU by default.

    On a GPU the samples are kept in its memory, each part from its first use on, if `resident` is True, or
    "auto" and all parts fit (`resident.fits`). Otherwise a thread gathers batches ahead into pinned memory.
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
        train_segments: int | None = None,
        test_segments: int | None = None,
        resident: Resident = "auto",
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise UserError(f"batch_size is {batch_size}: allowed are 2, 3, ...")
        if eval_batch_size is not None and eval_batch_size < 1:
            raise UserError(f"eval_batch_size is {eval_batch_size}: allowed are 1, 2, ...")
        if seed < 0:
            raise UserError(f"seed is {seed}: allowed are 0, 1, ...")
        for name, value in (("train_segments", train_segments), ("test_segments", test_segments)):
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: allowed are 1, 2, ... per clip, or None for all")
        if resident not in ("auto", True, False):
            raise UserError(f"resident is {resident!r}: allowed are 'auto', True and False")
        self.store = Store.open(store)
        self.selection: Selection = self.store.select(split, top)
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.train_segments, self.test_segments = train_segments, test_segments
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
        segment_clip = self.parts["train"].segment_clip
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
        return self._batches("train", sampler)

    def val_dataloader(self) -> Loader:
        """Batches of the validation part in order."""
        return self._in_order("valid")

    def test_dataloader(self) -> Loader:
        """Batches of the test part in order."""
        return self._in_order("test")

    def predict_dataloader(self) -> Loader:
        """Batches of the test part in order."""
        return self._in_order("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale the waveforms to float32 in [-1, 1) on the device: half the bytes cross the bus."""
        return batch._replace(waveforms=batch.waveforms.float() / 32768)

    def in_order(self, part: str) -> list[np.ndarray]:
        """The segments of each batch of evaluation, all processes' together, by index."""
        segments = evenly_spaced(self.parts[part].segment_clip, self.test_segments)
        size = self.eval_batch_size or (EVAL_BATCH_GPU if self.device.type == "cuda" else EVAL_BATCH)
        return [segments[start : start + size] for start in range(0, len(segments), size)]

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
        gpu = device.type == "cuda"
        return Batches(self.store, part, sampler, pin_memory=gpu, ahead=AHEAD if gpu else 0)

    def _keep(self, device: torch.device) -> bool:
        """Decide once per device of a trainer whether the samples are kept there, and say so."""
        if self.trainer is None:
            return False
        if device not in self._keeps:
            size = SEGMENT_BYTES * sum(len(part.segment_clip) for part in self.parts.values())
            self._keeps[device] = keeps_resident(self.resident, size, device)
            if self._speaks():
                how = f"kept in the memory of {device}" if self._keeps[device] else "read from files"
                log.info("%.1f GB of samples, %s", size / 1e9, how)
        return self._keeps[device]

    def _speaks(self) -> bool:
        return self.trainer is not None and self.trainer.is_global_zero
