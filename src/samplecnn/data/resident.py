"""A part of a split kept in a GPU's memory, so that its batches never cross the bus.

MagnaTagATune's three parts are 25 GB. The tests compare the batches with those of the host bit by bit, with
the CPU as the device.
"""

import gc
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from samplecnn.data.batches import Batch, BatchIndices, Resumable
from samplecnn.data.store import Part, Store
from samplecnn.errors import UserError

CHUNK = 512  # segments loaded at once: 60 MB of 59,049 samples
ROOM = 4 << 30  # bytes of the device for libraries, weights and optimiser; samples may have half of the rest
WITH_PROGRESS = 1 << 30  # bytes that take long enough to load for a progress bar

Resident = bool | Literal["auto"]


class ResidentPart:
    """All segments, labels and clip indices of a part on `device`, zero-padded as on the host.

    Raises OSError as `Store.gather` does, and `torch.OutOfMemoryError`.
    """

    def __init__(
        self, store: Store, part: Part, device: torch.device, *, chunk: int = CHUNK, progress: bool = False
    ) -> None:
        spans, samples = part.segment_spans, part.segment_samples
        self.waveforms = torch.empty((len(spans), samples), dtype=torch.int16, device=device)
        self.labels = torch.from_numpy(part.labels.astype(np.float32)).to(device)
        self.segment_clip = torch.from_numpy(part.segment_clip).to(device)
        staging = torch.empty(
            (min(chunk, len(spans)), samples), dtype=torch.int16, pin_memory=device.type == "cuda"
        )
        size = part_bytes(part)
        # In the order of the store: shard by shard.
        with tqdm(total=size, unit="B", unit_scale=True, disable=not progress or size < WITH_PROGRESS) as bar:
            for first in range(0, len(spans), chunk):
                rows = staging[: len(spans) - first]
                store.gather(spans[first : first + chunk], out=rows.numpy())
                self.waveforms[first : first + chunk].copy_(rows)  # waits until the rows may be overwritten
                bar.update(rows.nbytes)

    def batch(self, segments: Tensor, on_host: Tensor) -> Batch:
        """Gather the segments with these indices, int64 `(batch,)` on the device, without waiting for it.

        `on_host` has the same indices.
        """
        clips = self.segment_clip.index_select(0, segments)
        waveforms, labels = self.waveforms.index_select(0, segments), self.labels.index_select(0, clips)
        return Batch(waveforms, labels, clips, on_host)


class ResidentBatches(Resumable):
    """Iterable over the same batches as `Batches`, of a part that is on the device already."""

    def __init__(self, part: ResidentPart, sampler: BatchIndices) -> None:
        super().__init__(sampler)
        self.part = part

    def __iter__(self) -> Iterator[Batch]:
        batches = list(self.indices())
        # One transfer for the whole epoch.
        order = torch.from_numpy(np.concatenate(batches)).to(self.part.waveforms.device)
        on_device = order.split([len(batch) for batch in batches])
        for segments, batch in zip(on_device, batches, strict=True):
            self._given += 1
            yield self.part.batch(segments, torch.from_numpy(batch))


def part_bytes(part: Part) -> int:
    """Return the bytes that a part's segments take."""
    return 2 * part.segment_samples * len(part.segment_spans)


def keeps_resident(resident: Resident, size: int, device: torch.device) -> bool:
    """Say whether to keep `size` bytes of samples on `device`, as `fits` does; never on a CPU."""
    if device.type != "cuda":
        return False
    # An earlier run of this process may still hold some: its trainer is a cycle of references.
    gc.collect()
    torch.cuda.empty_cache()
    return fits(resident, size, free=torch.cuda.mem_get_info(device)[0])


def fits(resident: Resident, size: int, free: int) -> bool:
    """Say whether to keep `size` bytes on a device with `free` bytes.

    "auto" keeps them if they take at most half of what is free beyond `ROOM`; the other half is for training.
    True always does, and raises `UserError` if they are more than is free.
    """
    if resident is True and size > free:
        raise UserError(
            f"data.resident=true: the samples take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on "
            "the GPU. Use data.resident=auto"
        )
    return resident is True or (resident == "auto" and 2 * size <= free - ROOM)
