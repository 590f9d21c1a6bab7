"""What a training step does besides computing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from samplecnn.data.datamodule import Batch
from samplecnn.model.blocks import Basic
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN
from samplecnn.training.module import TaggingModule
from samplecnn.training.schedule import PaperSchedule

STEPS = 8
EVERY = 4


class Batches:
    """The same noise at every step; a list would be taken for several loaders."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(STEPS):
            waveforms = torch.rand(2, SEGMENT_SAMPLES) - 0.5
            yield Batch(waveforms, torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), torch.arange(2))


class Noting(TaggingModule):
    """Notes what is logged, and when."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.noted: list[tuple[int, str]] = []

    def log(self, name: str, *arguments: Any, **options: Any) -> None:
        self.noted.append((self.trainer.global_step, name))
        super().log(name, *arguments, **options)


def test_label_smoothing_moves_the_targets_of_training_alone() -> None:
    """By its formula: with e = 0.2, what is true counts as 0.9 and what is not as 0.1."""
    torch.manual_seed(0)
    network = SampleCNN(Basic, tags=3, width=2).eval()
    module = TaggingModule(network, description={}, label_smoothing=0.2)
    labels = torch.tensor([[0.0, 1.0, 0.5], [1.0, 1.0, 0.0]])
    waveforms, number = torch.rand(2, SEGMENT_SAMPLES) - 0.5, torch.zeros(2, dtype=torch.int64)
    batch = Batch(waveforms, labels, number, number)
    with torch.no_grad():
        p = network(batch.waveforms).double().sigmoid()
        targets = torch.tensor([[0.1, 0.9, 0.5], [0.9, 0.9, 0.1]], dtype=torch.float64)
        expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
        assert module._loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
        module._evaluation_step(batch)
        ((_, _, loss),) = module._outputs
        plain = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
        assert loss.item() == pytest.approx(plain.item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:The 'train_dataloader'")
def test_steps_log_nothing_but_now_and_then(tmp_path: Path) -> None:
    """Every value that is logged is a tensor of its own, and on a GPU a wait for it."""
    torch.manual_seed(0)
    module = Noting(SampleCNN(Basic, tags=3, width=2), description={}, log_every=EVERY)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        callbacks=[PaperSchedule(0.01, stages=5, factor=0.2, patience=2, decay=1e-6)],
    )
    trainer.fit(module, train_dataloaders=Batches())
    steps = [(step, name) for step, name in module.noted if name != "train/loss_epoch"]
    assert steps == [
        (step, name)
        for step in range(EVERY - 1, STEPS, EVERY)
        for name in ("train/loss_step", "learning_rate")
    ]
    assert [name for _, name in module.noted].count("train/loss_epoch") == 1
    rate = float(trainer.callback_metrics["learning_rate"])
    assert rate == torch.tensor(0.01 / (1 + 1e-6 * (STEPS - 1))).item()
