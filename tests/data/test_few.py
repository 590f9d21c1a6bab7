"""Few clips of the training part: nested, stratified, and nothing else changed."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.few import few, stratified
from samplecnn.data.store import Store
from samplecnn.errors import UserError


def random_labels(seed: int) -> NDArray[np.uint8]:
    """Tags from common to very rare, some without a clip; clips without a tag."""
    rng = np.random.default_rng(seed)
    clips, tags = int(rng.integers(5, 200)), int(rng.integers(1, 30))
    return (rng.random((clips, tags)) < rng.uniform(0, 0.4, size=tags) ** 2).astype(np.uint8)


@pytest.mark.parametrize("seed", range(30))
def test_nested_and_stratified(seed: int) -> None:
    labels = random_labels(seed)
    clips = len(labels)
    order = stratified(labels, clips, seed)
    assert sorted(order) == list(range(clips))
    present = labels.any(axis=0)
    for count in {1, 2, 5, clips // 2 or 1, clips - 1}:
        chosen = stratified(labels, count, seed)
        np.testing.assert_array_equal(chosen, order[:count])
        covered = labels[chosen].any(axis=0)
        assert covered.sum() >= min(count, present.sum())  # each clip brings a tag, until none is left
    again, other = stratified(labels, clips, seed), stratified(labels, clips, seed + 1)
    np.testing.assert_array_equal(again, order)
    assert clips < 10 or (other != order).any()


def test_a_tag_s_only_clip_is_among_the_first() -> None:
    labels = np.zeros((500, 3), dtype=np.uint8)
    labels[:, 0] = 1
    labels[::2, 1] = 1
    labels[123, 2] = 1
    for seed in range(5):
        assert stratified(labels, 1, seed).tolist() == [123]


def test_of_a_tag_s_clips_the_one_that_brings_most_tags_comes_first() -> None:
    labels = np.zeros((40, 4), dtype=np.uint8)
    labels[:30, 0] = labels[5:35, 1] = 1
    labels[[31, 2, 10, 39], 2] = 1
    for seed in range(10):
        assert stratified(labels, 1, seed).tolist() == [10]


def test_shares_stay_those_of_all_clips() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.1, 0.05])
    labels = (rng.random((2000, 4)) < shares).astype(np.uint8)
    untagged = float((~labels.any(axis=1)).mean())
    for seed in range(5):
        chosen = labels[stratified(labels, 200, seed)]
        np.testing.assert_allclose(chosen.mean(axis=0), labels.mean(axis=0), atol=0.06)
        assert abs((~chosen.any(axis=1)).mean() - untagged) < 0.06


def test_the_part_is_that_of_its_clips(store_path: Path) -> None:
    whole = Store.open(store_path).select("clean", None).parts["train"]
    part = few(whole, 2, seed=0)
    assert (len(part.clips), len(part.clip_ids), len(part.labels)) == (2, 2, 2)
    assert list(part.clips) == sorted(part.clips)
    for place, clip in enumerate(part.clips):
        index = list(whole.clips).index(clip)
        assert part.clip_ids[place] == whole.clip_ids[index]
        np.testing.assert_array_equal(part.labels[place], whole.labels[index])
        spans = [p.segment_spans[p.segment_clip == i] for p, i in ((part, place), (whole, index))]
        np.testing.assert_array_equal(*spans)
    assert part.labels.any(axis=0).sum() >= 2


def test_only_training_has_fewer(store_path: Path) -> None:
    whole, small = (SegmentDataModule(store_path, batch_size=2, train_clips=n) for n in (None, 2))
    assert small.selection.split_hash == whole.selection.split_hash
    for part in ("valid", "test"):
        assert small.parts[part].clip_ids == whole.parts[part].clip_ids
    assert len(small.parts["train"].clips) == 2
    heard = {int(clip) for batch in small.train_dataloader() for clip in batch.clips}
    assert heard == {0, 1}
    everything = SegmentDataModule(store_path, batch_size=2, train_clips=len(whole.parts["train"].clips))
    assert everything.parts["train"].clip_ids == whole.parts["train"].clip_ids


@pytest.mark.parametrize("clips", [0, 5])
def test_more_than_there_are(store_path: Path, clips: int) -> None:
    message = (
        rf"data\.train_clips={clips}: the training part has 4 clips; allowed are 1 to 4, or null for all"
    )
    with pytest.raises(UserError, match=message):
        SegmentDataModule(store_path, train_clips=clips)
