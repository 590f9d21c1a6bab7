"""Batches: every segment once per epoch in an order of seed and epoch alone, through real fits too."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from samplecnn.data.datamodule import Batch, EpochBatches, SegmentDataModule, evenly_spaced
from samplecnn.data.store import StoreError


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


def test_fewer_segments_per_clip(store_path: Path) -> None:
    data = SegmentDataModule(store_path, batch_size=2, train_segments=1, test_segments=2)
    assert len(data.train_dataloader()) == 2  # 4 clips
    assert torch.cat([batch.clips for batch in data.test_dataloader()]).tolist() == [0, 0, 1, 2]
    assert torch.cat([batch.clips for batch in data.val_dataloader()]).tolist() == [0, 1, 1]
    part, (batch,) = data.parts["valid"], list(data.val_dataloader())
    np.testing.assert_array_equal(batch.waveforms, data.store.gather(part.segment_spans[[0, 1, 3]]))


@pytest.fixture
def data(store_path: Path) -> SegmentDataModule:
    return SegmentDataModule(store_path, batch_size=4, eval_batch_size=3)


def test_tags_are_known_before_anything_is_set_up(data: SegmentDataModule) -> None:
    assert data.tags == ("loud", "slow", "rare")
    assert [len(part.clips) for part in data.parts.values()] == [4, 2, 3]
    assert len(data.selection.split_hash) == 64


def test_training_batches(data: SegmentDataModule) -> None:
    loader = data.train_dataloader()
    assert len(loader) == 4  # 14 segments
    batches = list(loader)
    seen: set[tuple[int, bytes]] = set()
    for batch in batches:
        assert (batch.waveforms.shape, batch.waveforms.dtype) == ((4, 59_049), torch.int16)
        assert (batch.labels.shape, batch.labels.dtype) == ((4, 3), torch.float32)
        assert (batch.clips.shape, batch.clips.dtype) == ((4,), torch.int64)
        np.testing.assert_array_equal(batch.labels, data.parts["train"].labels[batch.clips])
        waveforms = [waveform.tobytes() for waveform in batch.waveforms.numpy()]
        seen.update(zip(batch.clips.tolist(), waveforms, strict=True))
    part = data.parts["train"]
    expected = zip(part.segment_clip, data.store.gather(part.segment_spans), strict=True)
    assert seen == {(int(clip), wave.tobytes()) for clip, wave in expected}


def test_evaluation_batches_are_in_order(data: SegmentDataModule) -> None:
    for loader, part, sizes in (
        (data.val_dataloader(), "valid", [3, 1]),
        (data.test_dataloader(), "test", [3, 1]),
        (data.predict_dataloader(), "test", [3, 1]),
    ):
        batches = list(loader)
        assert [len(batch.clips) for batch in batches] == sizes
        np.testing.assert_array_equal(
            torch.cat([batch.clips for batch in batches]), data.parts[part].segment_clip
        )
        waveforms = torch.cat([batch.waveforms for batch in batches]).numpy()
        np.testing.assert_array_equal(waveforms, data.store.gather(data.parts[part].segment_spans))
        assert len(list(loader)) == len(loader)  # a second pass is possible


def test_waveforms_become_floats_on_the_device(data: SegmentDataModule) -> None:
    batch = Batch(
        torch.tensor([[-32768, 0, 16384, 32767]], dtype=torch.int16), torch.ones(1, 3), torch.zeros(1)
    )
    floats = data.on_after_batch_transfer(batch, 0)
    assert isinstance(floats, Batch)
    assert floats.waveforms.dtype == torch.float32
    assert floats.waveforms.tolist() == [[-1.0, 0.0, 0.5, 32767 / 32768]]


def test_impossible_settings_are_refused(store_path: Path) -> None:
    for size in (1, 0, -4):
        with pytest.raises(ValueError, match=f"batch_size is {size}: allowed are 2, 3"):
            SegmentDataModule(store_path, batch_size=size)
    for size in (0, -4):
        with pytest.raises(ValueError, match=f"eval_batch_size is {size}: allowed are 1, 2"):
            SegmentDataModule(store_path, eval_batch_size=size)
    for name in ("train_segments", "test_segments"):
        with pytest.raises(ValueError, match=f"{name} is 0: allowed are 1, 2, ... per clip, or None for all"):
            SegmentDataModule(store_path, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed is -1: allowed are 0, 1"):
        SegmentDataModule(store_path, seed=-1)
    with pytest.raises(StoreError, match="allowed are clean, pons"):
        SegmentDataModule(store_path, split="other")
    with pytest.raises(StoreError, match="no store at"):
        SegmentDataModule(store_path / "nowhere")


class Recorder(pl.LightningModule):
    """The smallest network that can be fitted; notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 3)
        self.epochs: dict[int, list[float]] = {}
        self.validated: list[int] = []

    def loss(self, batch: Batch) -> Tensor:
        assert isinstance(batch, Batch)
        assert batch.waveforms.dtype == torch.float32
        assert batch.waveforms.abs().max() <= 1
        return (self.layer(batch.waveforms.mean(dim=1, keepdim=True)) - batch.labels).square().mean()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.epochs.setdefault(self.current_epoch, []).extend(batch.waveforms.sum(dim=1).tolist())
        return self.loss(batch)

    def on_train_epoch_end(self) -> None:
        self.trainer.save_checkpoint(f"{self.trainer.default_root_dir}/after-{self.current_epoch}.ckpt")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.validated.extend(batch.clips.tolist())
        self.log("loss", self.loss(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.loss(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch.clips

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


def test_lightning_sets_the_epoch_also_when_resuming(tmp_path: Path, store_path: Path) -> None:
    """No warning is allowed to arise either: tests turn warnings into errors."""

    def data() -> SegmentDataModule:
        return SegmentDataModule(store_path, batch_size=4, eval_batch_size=3, seed=7)

    whole = Recorder()
    trainer(tmp_path, 3).fit(whole, data())
    assert whole.validated == [0, 1, 1, 1] * 3
    expected = {}
    for epoch in range(3):
        loader = data().train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        expected[epoch] = [
            value for batch in loader for value in (batch.waveforms / 32768).sum(dim=1).tolist()
        ]
    assert whole.epochs == expected
    assert expected[0] != expected[1]

    resumed = Recorder()
    trainer(tmp_path, 3).fit(resumed, data(), ckpt_path=tmp_path / "after-0.ckpt")
    assert resumed.epochs == {1: expected[1], 2: expected[2]}


def test_lightning_tests_and_predicts(tmp_path: Path, data: SegmentDataModule) -> None:
    runner = trainer(tmp_path, 1)
    runner.test(Recorder(), data, verbose=False)
    predictions = runner.predict(Recorder(), data)
    assert predictions is not None
    assert torch.cat([clips for clips in predictions if isinstance(clips, Tensor)]).tolist() == [0, 0, 1, 2]
