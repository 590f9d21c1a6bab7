"""What a training step does besides computing."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from samplecnn.data.batches import Batch
from samplecnn.model.blocks import Basic
from samplecnn.model.network import SEGMENT_SAMPLES, SampleCNN
from samplecnn.training.backends.choice import Choice
from samplecnn.training.backends.graph import StepGraph
from samplecnn.training.backends.proof import Plan
from samplecnn.training.launch import TORCHRUN
from samplecnn.training.module import TaggingModule
from samplecnn.training.schedule import PaperSchedule
from training.composing import composing
from training.fine_tuning import write_world

STEPS = 8
EVERY = 4


class Batches:
    """The same noise at every step; a list would be taken for several loaders."""

    def __init__(self) -> None:
        waveforms = torch.rand(2, SEGMENT_SAMPLES) - 0.5
        self.batch = Batch(waveforms, torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), torch.arange(2))

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * STEPS)


class Noting(DummyLogger):
    """Keeps what it is given to log."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))


def fit(module: TaggingModule, folder: Path, logger: Noting, *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=folder,
        callbacks=[*callbacks, PaperSchedule(0.01, stages=5, factor=0.2, patience=2, decay=1e-6)],
    )
    trainer.fit(module, train_dataloaders=Batches())


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


def test_each_rank_drops_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    module = TaggingModule(SampleCNN(Basic, tags=3, width=2), description={})
    drawn = []
    for number in (0, 1, 1):
        for name, value in zip(TORCHRUN, (number, number, 2, 2), strict=True):
            monkeypatch.setenv(name, str(value))
        module.seed_dropout()
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] != drawn[1] == drawn[2]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:The 'train_dataloader'")
def test_steps_log_nothing_but_now_and_then(tmp_path: Path) -> None:
    """As loggers see it: on a GPU every value is a wait for it."""
    torch.manual_seed(0)
    module = TaggingModule(SampleCNN(Basic, tags=3, width=2), description={}, log_every=EVERY)
    logger = Noting()
    fit(module, tmp_path, logger)
    *steps, (last, epoch) = logger.rows
    assert [step for step, _ in steps] == list(range(EVERY - 1, STEPS, EVERY))
    for step, row in steps:
        assert row.keys() == {"train/loss_step", "learning_rate", "epoch"}
        assert row["learning_rate"] == pytest.approx(0.01 / (1 + 1e-6 * (step or 0)), rel=1e-12)
    assert (last, set(epoch)) == (STEPS - 1, {"train/loss_epoch", "epoch"})
    assert steps[-1][1]["train/loss_step"] == module.step_loss


def test_cudnn_times_its_algorithms_for_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is set on a GPU, so that `samplecnn evaluate` gives the test's numbers again."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seen: Counter[tuple[bool, bool]] = Counter()

    def note(network: torch.nn.Module, *_: Any) -> None:
        if isinstance(network, SampleCNN):
            seen[network.training, torch.backends.cudnn.benchmark] += 1

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        with composing():
            write_world(tmp_path / "data").train(tmp_path / "run", "width=2", "trainer.max_epochs=2")
    finally:
        hook.remove()
    assert seen.keys() == {(True, True), (False, False)}
    assert seen[False, False] >= 3  # two epochs and the test
    assert torch.backends.cudnn.benchmark


class Operations(TorchDispatchMode):
    """Counts PyTorch's operations by name, but for those that launch nothing on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in ("detach", "view", "t", "_record_function_enter_new", "_record_function_exit"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class Steps(pl.Callback):
    """Keeps the operations of each step, all from its beginning to that of the next."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self.each: list[Counter[str]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.operations.counts = Counter()
        self.each.append(self.operations.counts)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:The 'train_dataloader'")
@pytest.mark.parametrize("graph", [False, True])
def test_what_the_host_launches_in_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, graph: bool
) -> None:
    """In one that logs nothing. What a graph holds counts as one launch: a replay."""
    operations = Operations()
    taken = StepGraph._take

    def replay(self: StepGraph) -> Tensor:
        counts, operations.counts = operations.counts, Counter()
        loss = taken(self)
        operations.counts = counts
        counts["replay"] += 1
        return loss

    monkeypatch.setattr(StepGraph, "_take", replay)
    torch.manual_seed(0)
    module = TaggingModule(
        SampleCNN(Basic, tags=3, width=2), description={}, log_every=EVERY, choice=Choice(Plan(graph=graph))
    )
    steps = Steps(operations)
    with operations:
        fit(module, tmp_path, Noting(), steps)
    found = steps.each[EVERY + 1]
    assert found.total() < steps.each[2 * EVERY - 1].total()  # which logs
    assert "_local_scalar_dense" not in found  # a wait for the device
    if not graph:
        assert found.total() > 200
        return
    assert found == {
        "copy_": 3,  # waveforms and labels into the graph's memory; on a CPU also the loss
        "fill_": 2,  # the rate of each of two groups: it moves in every step
        "replay": 1,
        "add_": 1,  # the sum of the epoch's losses
        "div": 1,  # Lightning, of the loss by 1
        "clone": 1,  # Lightning, of the loss
    }


class Watching(pl.Callback):
    """Knows the graph of a training without keeping it."""

    def on_train_end(self, _trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TaggingModule)
        assert module._graph is not None
        self.graph = weakref.ref(module._graph)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:The 'train_dataloader'")
def test_a_graph_gives_its_memory_back_at_the_end(tmp_path: Path) -> None:
    """Though the module goes on, to be tested."""
    network = SampleCNN(Basic, tags=3, width=2)
    module = TaggingModule(network, description={}, choice=Choice(Plan(graph=True)))
    watching = Watching()
    fit(module, tmp_path, Noting(), watching)
    gc.collect()
    assert watching.graph() is None
