"""Averages of weights against slow loops, in real fits of a small network."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from samplecnn.data.batches import Batch
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import BatchNorm, use_keras_statistics
from samplecnn.training.averaging import EMA, SWA, Averaging, make_averaging
from samplecnn.training.checkpoint_files import WholeFiles
from samplecnn.training.checkpoints import RunCheckpoint
from samplecnn.training.module import TaggingModule
from samplecnn.training.schedule import MONITOR, OneCycle, PaperSchedule, Schedule
from samplecnn.training.won import WonSchedule

STEPS = 6
Weights = dict[str, Tensor]


class Batches:
    """The same noise in every epoch; a list would be taken for several loaders."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.count):
            random = torch.Generator().manual_seed(number)
            waveforms = torch.rand(5, 4, generator=random) + number / 10
            labels = (torch.rand(5, 3, generator=random) < 0.3).float()
            yield Batch(waveforms, labels, torch.zeros(5, dtype=torch.int64), torch.arange(5))


class Layers(Network):
    """Two layers with a batch norm between them."""

    def __init__(self) -> None:
        super().__init__(tags=3)
        self.layers = nn.Sequential(nn.Linear(4, 8), BatchNorm(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, values: Tensor) -> Tensor:
        outputs: Tensor = self.layers(values)
        return outputs


class Small(TaggingModule):
    """A network, of two layers, that notes its weights; the losses of its validations are from a script."""

    def __init__(self, losses: list[float], network: Network | None = None, **options: Any) -> None:
        torch.manual_seed(0)
        super().__init__(network or Layers(), description={}, **options)
        self.losses = losses
        self.begun: list[Weights] = []  # at the beginning of each epoch
        self.trained: list[Weights] = []  # after each step
        self.validated: list[Weights] = []

    @property
    def data(self) -> Any:
        return SimpleNamespace(train_dataloader=lambda: Batches(STEPS))

    def weights(self) -> Weights:
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.begun.append(self.weights())

    def on_train_batch_end(self, *_: Any) -> None:
        self.trained.append(self.weights())

    def on_validation_epoch_start(self) -> None:
        assert not self.network.training
        self.validated.append(self.weights())

    def validation_step(self, batch: Batch, _index: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log(MONITOR, torch.tensor(self.losses[self.current_epoch]))


def fit(module: Small, schedule: Schedule, run: Path, *callbacks: pl.Callback, epochs: int) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        plugins=[WholeFiles()],
        callbacks=[schedule, RunCheckpoint(run, tested=schedule.tested, every_minutes=1000), *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=run,
    )
    trainer.fit(module, Batches(STEPS), Batches(1))


def stages(count: int = 1) -> PaperSchedule:
    """Each ends at the first epoch that is not better."""
    return PaperSchedule(0.5, stages=count, factor=0.2, patience=0, decay=0.0)


def assert_same(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=1e-6)


def ema_by_a_loop(steps: list[Weights], decay: float) -> Weights:
    mean = {name: tensor.double() for name, tensor in steps[0].items()}
    for count, weights in enumerate(steps[1:], start=1):
        kept = min(decay, (1 + count) / (10 + count))
        for name, tensor in weights.items():
            mean[name] = kept * mean[name] + (1 - kept) * tensor.double()
            if not tensor.is_floating_point():
                mean[name] = tensor
    return mean


def state(run: Path, name: str) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return checkpoint


def network(checkpoint: dict[str, Any]) -> Weights:
    return {name.removeprefix("network."): tensor for name, tensor in checkpoint["state_dict"].items()}


pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")


def test_ema_against_a_loop(tmp_path: Path) -> None:
    module, plain = Small([1.0, 0.5, 0.9]), Small([1.0, 0.5, 0.9])
    fit(module, stages(2), tmp_path, EMA(0.5), epochs=3)
    for epoch, validated in enumerate(module.validated):
        expected = ema_by_a_loop(module.trained[: (epoch + 1) * STEPS], 0.5)
        for name, tensor in validated.items():
            assert_close(tensor, expected[name])
    fit(plain, stages(2), tmp_path / "plain", epochs=3)
    for ours, theirs in zip(module.trained, plain.trained, strict=True):
        assert_same(ours, theirs)
    best, last = state(tmp_path, "best"), state(tmp_path, "last")
    assert_same(network(best), module.validated[1])
    assert best["averaged"] == "ema of 12 steps"
    assert "averaged" not in last
    assert "averaged" not in state(tmp_path / "plain", "best")
    assert module.averaged is None


def test_checkpoints_hold_both(tmp_path: Path) -> None:
    module = Small([1.0, 0.9])
    fit(module, OneCycle(0.5, warmup=0.3), tmp_path, EMA(0.9), epochs=2)
    last = state(tmp_path, "last")
    assert_same(network(last), module.trained[-1])
    average = last["callbacks"]["EMA"]
    assert average["count"] == 2 * STEPS
    assert_same(average["weights"], module.validated[-1])
    assert_same(network(state(tmp_path, "best")), module.validated[-1])


def measured(weights: Weights) -> tuple[Tensor, Tensor]:
    """The means over batches of mean and biased variance in front of the batch norm, by hand."""
    layers = [
        batch.waveforms @ weights["layers.0.weight"].T + weights["layers.0.bias"] for batch in Batches(STEPS)
    ]
    means = torch.stack([x.mean(dim=0) for x in layers])
    variances = torch.stack([x.var(dim=0, correction=0) for x in layers])
    return means.mean(dim=0), variances.mean(dim=0)


@pytest.mark.parametrize("keras", [False, True])
def test_swa_against_a_loop(tmp_path: Path, *, keras: bool) -> None:
    module, plain = Small([1.0] * 4), Small([1.0] * 4)
    if keras:
        use_keras_statistics(module.network)
        use_keras_statistics(plain.network)
    fit(module, OneCycle(0.5, warmup=0.3), tmp_path, SWA(1), epochs=4)
    ends = module.trained[STEPS - 1 :: STEPS]
    assert_same(module.validated[0], ends[0])
    for epoch in (1, 2, 3):
        validated = module.validated[epoch]
        mean, variance = measured(validated)
        assert_close(validated["layers.1.running_mean"], mean)
        assert_close(validated["layers.1.running_var"], variance)
        for name, _ in module.network.named_parameters():
            expected = torch.stack([weights[name].double() for weights in ends[1 : epoch + 1]]).mean(dim=0)
            assert_close(validated[name], expected)
    fit(plain, OneCycle(0.5, warmup=0.3), tmp_path / "plain", epochs=4)
    for ours, theirs in zip(module.trained, plain.trained, strict=True):
        assert_same(ours, theirs)
    best = state(tmp_path, "best")
    assert best["averaged"] == "swa of 3 epochs"
    assert_same(network(best), module.validated[-1])
    (norm,) = (layer for layer in module.network.modules() if isinstance(layer, BatchNorm))
    assert norm.from_first_step != keras


@pytest.mark.parametrize("average", [EMA(0.9), SWA(0)])
def test_a_stage_starts_from_the_best_average_and_averages_anew(tmp_path: Path, average: Averaging) -> None:
    """Stages: three epochs, of which the second is best; and three, of which none is better than that."""
    module = Small([1.0, 0.5, 0.9, 2.0, 1.0, 1.1])
    fit(module, stages(2), tmp_path, average, epochs=9)
    assert len(module.validated) == 6
    assert_same(module.begun[3], module.validated[1])
    if isinstance(average, EMA):
        expected = ema_by_a_loop(module.trained[3 * STEPS : 4 * STEPS], 0.9)
        for name, tensor in module.validated[3].items():
            assert_close(tensor, expected[name])
    else:
        for name, _ in module.network.named_parameters():
            assert_close(module.validated[3][name], module.trained[4 * STEPS - 1][name])
    for epoch in (1, 2, 4, 5):  # within a stage the training goes on with weights of its own
        assert_same(module.begun[epoch], module.trained[epoch * STEPS - 1])
    assert_same(network(state(tmp_path, "best")), module.validated[1])


def test_the_best_average_at_the_end_of_a_stage(tmp_path: Path) -> None:
    """The schedule has loaded it, as the weights to go on from, before the checkpoint is written."""
    module = Small([0.5, 1.0])
    schedule = WonSchedule(0.01, adam_epochs=1, sgd_rates=[0.1], sgd_epochs=[1], weight_decay=0.0)
    fit(module, schedule, tmp_path, EMA(0.9), epochs=2)
    best = state(tmp_path, "best")
    assert_same(network(best), module.validated[0])
    assert best["averaged"] == "ema of 6 steps"
    assert_same(module.begun[1], module.validated[0])


def test_what_is_made_of_settings() -> None:
    assert make_averaging({"name": "none"}, 8) == []
    (ema,) = make_averaging({"name": "ema", "decay": 0.99}, None)
    (swa,) = make_averaging({"name": "swa", "start": 0.75}, 8)
    (whole,) = make_averaging({"name": "swa", "start": 0.0}, None)
    assert isinstance(ema, EMA)
    assert isinstance(swa, SWA)
    assert isinstance(whole, SWA)
    assert (ema.decay, swa.first, whole.first) == (0.99, 6, 0)
