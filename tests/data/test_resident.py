"""Parts kept on a device (here the CPU): the same batches as those of the host, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.batches import Batches, EpochBatches, evenly_spaced
from samplecnn.data.catalog import PARTS
from samplecnn.data.resident import ROOM, Resident, ResidentBatches, ResidentPart, fits, keeps_resident
from samplecnn.data.store import Store

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store.open(store_path)


@pytest.mark.parametrize("chunk", [1, 3, 512])
@pytest.mark.parametrize("name", PARTS)
def test_the_same_batches_as_on_the_host(store: Store, name: str, chunk: int) -> None:
    part = store.select("clean", None).parts[name]
    resident = ResidentPart(store, part, CPU, chunk=chunk)
    assert resident.waveforms.shape == (len(part.segment_clip), SEGMENT_SAMPLES)
    shuffled = EpochBatches(len(part.segment_clip), 3, seed=5)
    in_order = np.split(evenly_spaced(part.segment_clip, 2), [2, 3])  # short ones, and perhaps an empty one
    for sampler in (shuffled, [batch for batch in in_order if len(batch)]):
        for epoch in range(3):
            shuffled.set_epoch(epoch)
            host, device = Batches(store, part, sampler), ResidentBatches(resident, sampler)
            assert len(device) == len(host)
            batches = list(zip(host, device, strict=True))
            assert len(batches) == len(host)
            for expected, batch in batches:
                for one, two in zip(expected, batch, strict=True):
                    assert one.dtype == two.dtype
                    assert torch.equal(one, two)


def test_short_clips_are_padded_with_zeros(store: Store) -> None:
    part = store.select("clean", None).parts["train"]
    resident = ResidentPart(store, part, CPU, chunk=2)  # memory that longer ones have been in
    (short,) = np.flatnonzero(part.segment_spans[:, 2] < SEGMENT_SAMPLES)
    samples = part.segment_spans[short, 2]
    index = torch.tensor([short])
    waveform = resident.batch(index, index).waveforms[0]
    assert waveform[:samples].any()
    assert not waveform[samples:].any()


def test_batches_are_memory_of_their_own(store: Store) -> None:
    part = store.select("clean", None).parts["valid"]
    resident = ResidentPart(store, part, CPU)
    before = resident.waveforms.clone()
    loader = ResidentBatches(resident, [np.array([0, 1]), np.array([0, 1])])
    first, second = loader
    first.waveforms.zero_()
    first.labels.zero_()
    assert torch.equal(resident.waveforms, before)
    assert torch.equal(second.waveforms, before[:2])
    assert second.labels.any()


def test_the_epoch_may_be_set_after_the_iterator_was_taken(store: Store) -> None:
    part = store.select("clean", None).parts["train"]
    sampler = EpochBatches(len(part.segment_clip), 4, seed=0)
    batches = iter(ResidentBatches(ResidentPart(store, part, CPU), sampler))
    sampler.set_epoch(3)
    wanted = list(sampler)
    for batch, segments in zip(batches, wanted, strict=True):
        np.testing.assert_array_equal(batch.clips, part.segment_clip[segments])


def test_what_fits() -> None:
    assert fits("auto", 10 * GB, ROOM + 20 * GB)
    assert not fits("auto", 10 * GB + 1, ROOM + 20 * GB)
    assert not fits("auto", 1, ROOM // 2)
    assert not fits("auto", 25 * GB, 15 * GB)
    assert fits(True, 10 * GB, 10 * GB)
    assert not fits(False, 1, 100 * GB)
    with pytest.raises(ValueError, match=r"the samples take 25\.0 GB, and 15\.5 GB are free on the GPU"):
        fits(True, 25 * GB, 15 * GB + GB // 2)


def test_on_the_cpu_nothing_is_kept() -> None:
    choices: tuple[Resident, ...] = ("auto", True, False)
    for resident in choices:
        assert not keeps_resident(resident, 1, CPU)
