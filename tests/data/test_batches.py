"""Batches on the host: which segments make them up, and gathered ahead by a thread or not."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.test_prefetch import threads as prefetching
from samplecnn.data.batches import Batch, Batches, EpochBatches, evenly_spaced, random_chunks
from samplecnn.data.store import Part, Store


def order(segments: int, batch_size: int, seed: int, epoch: int, **options: Any) -> list[list[int]]:
    batches = EpochBatches(segments, batch_size, seed, **options)
    batches.set_epoch(epoch)
    listed = [batch.tolist() for batch in batches]
    assert len(listed) == len(batches)
    return listed


def test_every_segment_once_and_the_last_batch_filled_from_the_beginning() -> None:
    batches = order(10, 4, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    flat = list(chain(*batches))
    assert sorted(flat[:10]) == list(range(10))
    assert flat[10:] == flat[:2]


def test_full_batches_are_left_as_they_are() -> None:
    assert sorted(chain(*order(8, 4, seed=0, epoch=0))) == list(range(8))


def test_a_set_smaller_than_a_batch_wraps_again() -> None:
    (batch,) = order(3, 8, seed=1, epoch=0)
    assert sorted(batch[:3]) == [0, 1, 2]
    assert batch[3:] == [*batch[:3], *batch[:2]]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert order(50, 7, seed=3, epoch=2) == order(50, 7, seed=3, epoch=2)
    assert order(50, 7, seed=3, epoch=2) != order(50, 7, seed=3, epoch=1)
    assert order(50, 7, seed=3, epoch=2) != order(50, 7, seed=2, epoch=3)
    torch.manual_seed(1)
    np.random.seed(1)
    assert order(5, 5, seed=0, epoch=0) == [[2, 4, 3, 0, 1]]  # for ever: results depend on it


def test_processes_share_the_batches_of_an_epoch() -> None:
    whole = order(50, 4, seed=0, epoch=5)  # 13 batches, the last one filled up
    shares = [order(50, 4, seed=0, epoch=5, rank=rank, world=3) for rank in range(3)]
    assert [len(share) for share in shares] == [5, 5, 5]
    together = [shares[index % 3][index // 3] for index in range(15)]
    assert together[:13] == whole
    assert list(chain(*together))[50:] == list(chain(*whole))[:10]


def test_segments_are_drawn_anew_per_clip_and_epoch() -> None:
    counts = [10, 2, 1, 7, 3]
    clip = np.repeat(np.arange(5), counts)
    drawn = [order(23, 4, 0, epoch, segment_clip=clip, per_clip=3) for epoch in (0, 1, 0)]
    assert drawn[0] == drawn[2]
    assert sorted(chain(*drawn[0])) != sorted(chain(*drawn[1]))
    for batches in drawn:
        examples = list(chain(*batches))[:12]
        assert len(set(examples)) == 12
        assert np.bincount(clip[examples]).tolist() == [3, 2, 1, 3, 3]
    seen = {i for epoch in range(40) for i in chain(*order(23, 4, 1, epoch, segment_clip=clip, per_clip=1))}
    assert seen == set(range(23))
    every = order(23, 4, 5, 2)
    assert every == order(23, 4, 5, 2, segment_clip=clip, per_clip=10)  # all of them: as if none were drawn
    shares = [order(23, 4, 0, 0, segment_clip=clip, per_clip=3, rank=rank, world=3) for rank in range(3)]
    assert [share[0] for share in shares] == drawn[0]


@pytest.mark.parametrize(
    ("per_clip", "expected"),
    [(None, list(range(13))), (1, [5, 11, 12]), (3, [1, 5, 8, 10, 11, 12]), (10, list(range(13)))],
)
def test_evenly_spaced_segments(per_clip: int | None, expected: list[int]) -> None:
    assert evenly_spaced(np.repeat([0, 1, 2], [10, 2, 1]), per_clip).tolist() == expected


def test_random_chunks_begin_anywhere_in_their_clip() -> None:
    clips = np.array([[0, 500, 1_000], [1, 0, 110], [1, 110, 60]])
    starts: list[int] = []
    places: set[int] = set()
    for epoch in range(300):
        spans = random_chunks(clips, 2, 100, seed=3, epoch=epoch)
        np.testing.assert_array_equal(spans, random_chunks(clips, 2, 100, seed=3, epoch=epoch))
        assert spans[:, 0].tolist() == [0, 0, 1, 1, 1, 1]
        assert spans[:, 2].tolist() == [100, 100, 100, 100, 60, 60]  # of a short clip all there is
        assert set(spans[4:, 1]) == {110}
        assert ((spans[:, 1] >= clips.repeat(2, 0)[:, 1]) & (spans[2:4, 1].max() <= 10)).all()
        starts += spans[:2, 1].tolist()
        places |= set(spans[2:4, 1].tolist())
    assert places == set(range(11))
    assert min(starts) >= 500
    assert max(starts) <= 1_400
    shares = np.histogram(starts, bins=3, range=(500, 1_401))[0] / len(starts)
    assert shares.min() > 0.25  # each third of the places as often
    other = random_chunks(clips, 2, 100, seed=4, epoch=0)
    assert (other[:4] != random_chunks(clips, 2, 100, seed=3, epoch=0)[:4]).any()


@pytest.mark.parametrize("given", [0, 2, 4])
def test_a_pass_goes_on_after_what_was_given_out(part: Part, store: Store, given: int) -> None:
    sampler = EpochBatches(len(part.segment_clip), 4, seed=0)
    loader, resumed = Batches(store, part, sampler), Batches(store, part, sampler)
    clips = [batch.clips.tolist() for batch in loader]
    assert len(clips) == 4
    assert loader.state_dict() == {"given": 0}  # all: the next pass begins at its beginning
    resumed.load_state_dict({"given": given})
    assert [batch.clips.tolist() for batch in resumed] == clips[given % 4 :]
    assert [batch.clips.tolist() for batch in resumed] == clips


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store.open(store_path)


@pytest.fixture
def part(store: Store) -> Part:
    return store.select("clean", None).parts["train"]


def assert_equal(batches: list[Batch], others: list[Batch]) -> None:
    for batch, other in zip(batches, others, strict=True):
        for one, two in zip(batch, other, strict=True):
            assert one.dtype == two.dtype
            assert torch.equal(one, two)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_batches_hold_what_the_store_holds(store: Store, part: Part, ahead: int) -> None:
    sampler = EpochBatches(len(part.segment_clip), 4, seed=0)
    loader = Batches(store, part, sampler, ahead=ahead)
    for epoch in range(4):  # by then out of memory maps
        sampler.set_epoch(epoch)
        wanted = list(sampler)
        batches = list(loader)
        assert len(batches) == len(loader) == 4
        for batch, segments in zip(batches, wanted, strict=True):
            np.testing.assert_array_equal(
                batch.waveforms, Store.open(store.path).gather(part.segment_spans[segments])
            )
            np.testing.assert_array_equal(batch.segments, segments)
            np.testing.assert_array_equal(batch.clips, part.segment_clip[segments])
            np.testing.assert_array_equal(batch.labels, part.labels[part.segment_clip[segments]])


def test_batches_that_are_held_are_never_written_to_again(store: Store, part: Part) -> None:
    loader = Batches(store, part, EpochBatches(len(part.segment_clip), 3, seed=0), ahead=2)
    held, copies = [], []
    for _ in range(5):
        for batch in loader:
            held.append(batch)
            copies.append(Batch(*(tensor.clone() for tensor in batch)))
    assert_equal(held, copies)


def test_the_epoch_may_be_set_after_the_iterator_was_taken(store: Store, part: Part) -> None:
    """As Lightning does in the first epoch of a resumed run."""
    sampler = EpochBatches(len(part.segment_clip), 4, seed=0)
    sampler.set_epoch(3)
    expected = list(Batches(store, part, sampler))
    sampler.set_epoch(0)
    batches = iter(Batches(store, part, sampler, ahead=2))
    sampler.set_epoch(3)
    assert_equal(list(batches), expected)


def test_an_abandoned_epoch_leaves_no_thread(store: Store, part: Part) -> None:
    loader = Batches(store, part, EpochBatches(len(part.segment_clip), 2, seed=0), ahead=2)
    for _ in range(3):
        batches = iter(loader)
        next(batches)
        assert len(prefetching()) == 1
        del batches
        assert prefetching() == []
