"""A store's batches: every segment once per epoch, through real fits too."""

import gc
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from data.test_prefetch import threads as prefetching
from samplecnn.data import audio
from samplecnn.data.batches import Batch, Batches, EpochBatches
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.resident import ResidentBatches
from samplecnn.data.store import StoreError
from samplecnn.errors import UserError


def test_fewer_segments_per_clip(store_path: Path) -> None:
    data = SegmentDataModule(store_path, batch_size=2, train_segments=1, test_segments=2)
    assert len(data.train_dataloader()) == 2  # 4 clips
    assert torch.cat([batch.clips for batch in data.test_dataloader()]).tolist() == [0, 0, 1, 2]
    assert torch.cat([batch.clips for batch in data.val_dataloader()]).tolist() == [0, 1, 1]
    part, (batch,) = data.parts["valid"], list(data.val_dataloader())
    np.testing.assert_array_equal(batch.waveforms, data.store.gather(part.segment_spans[[0, 1, 3]]))


@pytest.mark.parametrize("chunks", [1, 3])
def test_random_chunks_of_every_clip(store_path: Path, chunks: int) -> None:
    """Others in each epoch, the same again in the same epoch, and what the store holds there."""
    data = SegmentDataModule(store_path, batch_size=2, random_chunks=chunks, segment_samples=40_000)
    loader, again = data.train_dataloader(), data.train_dataloader()
    clips = [data.store.clip(int(clip)) for clip in data.parts["train"].clips]
    seen = []
    for epoch in (0, 1):
        for one in (loader, again):
            assert isinstance(one.sampler, EpochBatches)
            one.sampler.set_epoch(epoch)
        batches = list(loader)
        for batch, other in zip(batches, again, strict=True):
            assert torch.equal(batch.waveforms, other.waveforms)
            for waveform, clip in zip(batch.waveforms.numpy(), batch.clips.tolist(), strict=True):
                samples = np.pad(clips[clip], (0, max(0, 40_000 - len(clips[clip]))))
                assert waveform.tobytes() in samples.tobytes()
        counts = np.bincount(torch.cat([batch.clips for batch in batches]))
        assert counts.tolist() == [chunks] * 4
        seen.append({waveform.numpy().tobytes() for batch in batches for waveform in batch.waveforms})
    assert len(seen[0] & seen[1]) <= 1  # of the clip that is shorter than a chunk
    assert len(data.val_dataloader()) > 0


def test_chunks_and_segments_exclude_each_other(store_path: Path) -> None:
    with pytest.raises(UserError, match="train_segments and random_chunks"):
        SegmentDataModule(store_path, train_segments=1, random_chunks=1)
    with pytest.raises(UserError, match="random_chunks is 0: allowed are 1, 2"):
        SegmentDataModule(store_path, random_chunks=0)


@pytest.mark.parametrize(("rate", "samples"), [(16_000, 48_000), (16_000, 59_049), (44_100, 59_049)])
def test_another_rate_is_resampled_on_the_device(store_path: Path, rate: int, samples: int) -> None:
    """As the whole clip is on the host, but for the ends of a segment, beyond which there is silence."""
    data = SegmentDataModule(store_path, sample_rate=rate, segment_samples=samples, eval_batch_size=100)
    part = data.parts["test"]
    assert part.segment_samples == math.ceil(samples * 22_050 / rate)
    (batch,) = (data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader())
    assert batch.waveforms.shape == (len(part.segment_clip), samples)
    clip = data.store.clip(int(part.clips[0])) / np.float32(32768)
    whole = audio.resample(clip.astype(np.float32), 22_050, rate)[:samples]
    edge = min(samples // 2, rate // 100)
    middle = batch.waveforms[0].numpy()[: len(whole)]
    np.testing.assert_allclose(middle[: -edge or None], whole[: -edge or None], rtol=0, atol=1e-4)


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
    waveforms = torch.tensor([[-32768, 0, 16384, 32767]], dtype=torch.int16)
    batch = Batch(waveforms, torch.ones(1, 3), torch.zeros(1), torch.zeros(1))
    floats = data.on_after_batch_transfer(batch, 0)
    assert isinstance(floats, Batch)
    assert floats.waveforms.dtype == torch.float32
    assert floats.waveforms.tolist() == [[-1.0, 0.0, 0.5, 32767 / 32768]]


def test_indices_of_segments_stay_on_the_host(data: SegmentDataModule) -> None:
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert [tensor.device.type for tensor in moved] == ["meta", "meta", "meta", "cpu"]
    assert torch.equal(moved.segments, batch.segments)


def test_random_chunks_have_indices_of_their_own(store_path: Path) -> None:
    data = SegmentDataModule(store_path, random_chunks=3, batch_size=4)
    batches = list(data.train_dataloader())
    segments = torch.cat([batch.segments for batch in batches])
    assert set(segments.tolist()) == set(range(3 * len(data.parts["train"].clips)))
    assert torch.equal(segments // 3, torch.cat([batch.clips for batch in batches]))


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
    with pytest.raises(ValueError, match="resident is 'yes': allowed are 'auto', True and False"):
        SegmentDataModule(store_path, resident="yes")  # type: ignore[arg-type]
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
        self.tested: list[int] = []

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
        self.tested.extend(batch.clips.tolist())

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


def test_lightning_tests(tmp_path: Path, data: SegmentDataModule) -> None:
    recorder = Recorder()
    trainer(tmp_path, 1).test(recorder, data, verbose=False)
    assert recorder.tested == [0, 0, 1, 2]


@pytest.mark.parametrize("resident", ["auto", True, False])
def test_on_the_cpu_samples_are_read_from_files_whatever_is_asked_for(
    tmp_path: Path, store_path: Path, caplog: pytest.LogCaptureFixture, resident: Any
) -> None:
    data = SegmentDataModule(store_path, batch_size=4, resident=resident)
    assert len(data.train_dataloader()) == 4  # no trainer yet: nothing to say
    with caplog.at_level(logging.INFO, "samplecnn"):
        trainer(tmp_path, 2).fit(Recorder(), data)
    said = [record.message for record in caplog.records if record.name.startswith("samplecnn")]
    assert said == ["0.0 GB of samples, read from files"]
    assert isinstance(data.train_dataloader(), Batches)


def test_evaluation_batches_of_the_cpu(store_path: Path) -> None:
    data = SegmentDataModule(store_path)
    sizes = [len(batch.clips) for batch in data.test_dataloader()]
    assert sizes == [4]  # up to 40
    assert data.device.type == "cpu"
    most = [
        SegmentDataModule(store_path, segment_samples=samples).evaluated_at_once("test")
        for samples in (1_000, 59_049, 4 * 59_049, 100 * 59_049)
    ]
    assert most == [40, 40, 10, 1]


def test_a_fit_on_samples_that_are_kept_on_the_device(tmp_path: Path, store_path: Path) -> None:
    """Here the device is the CPU, where nothing would be kept."""

    class Kept(SegmentDataModule):
        def _keep(self, device: torch.device) -> bool:
            return True

    plain, kept = Recorder(), Recorder()
    trainer(tmp_path / "plain", 3).fit(plain, SegmentDataModule(store_path, batch_size=4, seed=7))
    data = Kept(store_path, batch_size=4, seed=7)
    trainer(tmp_path / "kept", 3).fit(kept, data)
    assert isinstance(data.train_dataloader(), ResidentBatches)
    assert kept.epochs == plain.epochs
    assert kept.validated == plain.validated
    resumed = Recorder()
    trainer(tmp_path / "kept", 3).fit(resumed, data, ckpt_path=tmp_path / "kept" / "after-0.ckpt")
    assert resumed.epochs == {epoch: plain.epochs[epoch] for epoch in (1, 2)}
    trainer(tmp_path / "kept", 1).test(kept, data, verbose=False)
    assert kept.tested == [0, 0, 1, 2]


def test_a_fit_that_stops_within_an_epoch_leaves_no_thread(tmp_path: Path, store_path: Path) -> None:
    class Ahead(SegmentDataModule):
        """Gathers ahead as for a GPU."""

        def train_dataloader(self) -> Batches:
            loader = super().train_dataloader()
            assert isinstance(loader, Batches)
            loader.ahead = 2
            return loader

    class Stops(Recorder):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            if self.current_epoch == 1 and batch_idx == 1:
                raise RuntimeError("enough")
            return super().training_step(batch, batch_idx)

    whole, ahead = Recorder(), Recorder()
    trainer(tmp_path, 2).fit(whole, SegmentDataModule(store_path, batch_size=4))
    trainer(tmp_path, 2).fit(ahead, Ahead(store_path, batch_size=4))
    assert ahead.epochs == whole.epochs
    assert prefetching() == []
    with pytest.raises(RuntimeError, match="enough") as caught:
        trainer(tmp_path, 2).fit(Stops(), Ahead(store_path, batch_size=4))
    del caught
    gc.collect()
    assert prefetching() == []
