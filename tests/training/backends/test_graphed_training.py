"""Trainings whose steps come out of a graph against those without; on a CPU, none is captured."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from devices import DEVICES, GPU
from samplecnn.data.batches import Batch, Resumable
from samplecnn.model.network import COMPILE, backends
from samplecnn.model.networks.network import Network
from samplecnn.runs.config import KERAS_SGD
from samplecnn.training.averaging import EMA
from samplecnn.training.backends.choice import Choice, _keep, memory_file
from samplecnn.training.backends.proof import Plan
from samplecnn.training.checkpoint_files import WholeFiles
from samplecnn.training.checkpoints import RunCheckpoint
from samplecnn.training.schedule import OneCycle, PaperSchedule, Schedule
from samplecnn.training.won import WonSchedule
from training.backends.test_graph import batches as sample_batches
from training.backends.test_graph import network as sample_cnn
from training.backends.test_graph_update import ADAMW
from training.test_averaging import STEPS, Batches, Small

LOSSES = [1.0, 0.9, 1.1, 0.8]  # the first stage ends after the third epoch
EPOCHS = len(LOSSES)
SIZE = 8  # segments: the last batch norm of fewer doubles rounding in every step

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def paper() -> Schedule:
    return PaperSchedule(0.5, stages=2, factor=0.2, patience=0, decay=0.05)


def small_steps() -> Schedule:
    """A SampleCNN's weights stay where rounding is not what decides."""
    return PaperSchedule(0.01, stages=2, factor=0.2, patience=0, decay=0.05)


def won() -> Schedule:
    """Adam, then SGD, neither of which a graph holds."""
    return WonSchedule(0.02, adam_epochs=2, sgd_rates=[0.1], sgd_epochs=[2], weight_decay=1e-3)


def one_cycle() -> Schedule:
    return OneCycle(0.05, warmup=0.3)


RECIPES: dict[str, tuple[Callable[[], Schedule], Mapping[str, Any]]] = {
    "paper": (paper, KERAS_SGD),
    "one cycle": (one_cycle, ADAMW),
    "won": (won, KERAS_SGD),
}
# Of a SampleCNN, in float64: float32 pools now one, now the other of two equal values.
WAVEFORMS = "waveforms"


class Loader(Resumable):
    """The same noise in every epoch, which goes on within one."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        super().__init__([np.array([number]) for number in range(len(batches))])
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        for (number,) in self.indices():
            self._given += 1
            yield self.batches[number]


class StoppedError(Exception):
    """The training stops here."""


class Noting(pl.Callback):
    """Notes Lightning's count of steps and the rate of each, and stops before one of them."""

    def __init__(self, stop: int | None) -> None:
        self.stop = stop
        self.steps: list[int] = []
        self.rates: list[list[float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.steps.append(trainer.global_step)
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.stop:
            raise StoppedError


def train(
    recipe: str,
    run: Path,
    *,
    plan: Plan,
    stop: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    spoilt: bool = False,
) -> Noting:
    """Train, saving at every step; ``stop`` is a number of steps, ``spoilt`` has the first step fail once."""
    waveforms = recipe == WAVEFORMS
    schedule, settings = (small_steps, KERAS_SGD) if waveforms else RECIPES[recipe]
    network: Network | None = sample_cnn("cpu", "plain", 0.0, torch.float64) if waveforms else None
    options = {"choice": Choice(plan), "optimizer": settings, "weight_decay": 1e-2}
    module = Small(LOSSES, network, **options)
    if not waveforms:
        # In front of a batch norm: its gradient is rounding of any sign, which is what Adam goes by.
        module.network.get_parameter("layers.0.bias").requires_grad_(False)
    given = sample_batches("cpu", STEPS, size=SIZE) if waveforms else list(Batches(STEPS))
    if spoilt:
        spoil(module)
    made, noting = schedule(), Noting(stop)
    keeper = RunCheckpoint(run, tested=made.tested, every_minutes=0)
    trainer = pl.Trainer(
        accelerator=device,
        devices=1,
        max_epochs=EPOCHS,
        precision="64-true" if waveforms else "32-true",
        plugins=[WholeFiles()],
        callbacks=[made, EMA(0.5), noting, keeper],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=run,
    )
    last = run / "checkpoints" / "last.ckpt" if resume else None
    with suppress(StoppedError):
        trainer.fit(module, Loader(given), Batches(1), ckpt_path=last, weights_only=True)
    return noting


def spoil(module: pl.LightningModule) -> None:
    """Have the first backward pass fail, when the forward pass has changed running statistics."""

    def fail(gradient: torch.Tensor) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nsecond line")

    def once(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        hook.remove()
        output.register_hook(fail)

    hook = module.get_submodule("network").register_forward_hook(once)


def assert_same_end(ours: Path, theirs: Path, tolerance: float = 1e-4) -> None:
    """The checkpoints at the end of both have the same in them, in the same form."""
    close = torch.testing.assert_close
    found, expected = (
        torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
        for run in (ours, theirs)
    )
    assert found.keys() == expected.keys()
    assert found["global_step"] == expected["global_step"]
    for name, tensor in expected["state_dict"].items():
        close(found["state_dict"][name], tensor, rtol=tolerance, atol=tolerance / 100, msg=name)
    (state,), (wanted,) = found["optimizer_states"], expected["optimizer_states"]
    assert state["param_groups"] == wanted["param_groups"]
    assert state["state"].keys() == wanted["state"].keys()
    for parameter, values in wanted["state"].items():
        assert state["state"][parameter].keys() == values.keys()
        for name, tensor in values.items():
            close(state["state"][parameter][name], tensor, rtol=10 * tolerance, atol=tolerance / 10)
    assert found["callbacks"]["EMA"]["count"] == expected["callbacks"]["EMA"]["count"]


IN_GRAPH = Plan(graph=True)
Whole = Callable[[str, str], tuple[Path, Noting]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Trainings without a graph and without a break, each once."""

    @cache
    def of(recipe: str, device: str) -> tuple[Path, Noting]:
        run = tmp_path_factory.mktemp("whole")
        return run, train(recipe, run, plan=Plan(), device=device)

    return of


@DEVICES
@pytest.mark.parametrize("recipe", RECIPES)
def test_whole_trainings_are_alike(recipe: str, device: str, whole: Whole, tmp_path: Path) -> None:
    """Over validations, before which Lightning drops the gradients, averages, and stages that begin anew."""
    run, expected = whole(recipe, device)
    noting = train(recipe, tmp_path, plan=IN_GRAPH, device=device)
    assert (noting.steps, noting.rates) == (expected.steps, expected.rates)
    assert noting.steps == list(range(1, EPOCHS * STEPS + 1))
    assert_same_end(tmp_path, run)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("stop", [STEPS + 2, 3 * STEPS + 1], ids=["first stage", "second stage"])
def test_a_training_goes_on_with_and_without_a_graph(
    recipe: str,
    stop: int,
    whole: Whole,
    tmp_path: Path,
    *,
    before: bool,
    after: bool,
) -> None:
    """Within an epoch: rates and steps are as if it had not stopped."""
    run, expected = whole(recipe, "cpu")
    first = train(recipe, tmp_path, plan=Plan(graph=before), stop=stop)
    second = train(recipe, tmp_path, plan=Plan(graph=after), resume=True)
    assert first.steps + second.steps == expected.steps
    assert first.rates + second.rates == expected.rates
    assert_same_end(tmp_path, run)


def plans(device: str) -> list[Plan]:
    return [Plan(backend, graph=graph) for backend in backends(device) for graph in (False, True)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Plan], tuple[Path, Noting]]:
    """Trainings of a SampleCNN that stop in the second stage, each once."""

    @cache
    def of(device: str, plan: Plan) -> tuple[Path, Noting]:
        run = tmp_path_factory.mktemp("stopped")
        return run, train(WAVEFORMS, run, plan=plan, stop=3 * STEPS + 1, device=device)

    return of


def pairs() -> Iterator[Any]:
    for device, gpu in (("cpu", ()), ("cuda", (GPU,))):
        for before, after in product(plans(device), repeat=2):
            slow = (pytest.mark.slow,) if COMPILE in (before.backend, after.backend) else ()
            name = f"{device}: {before}, then {after}"
            yield pytest.param(device, before, after, id=name, marks=gpu + slow)


@pytest.mark.parametrize(("device", "before", "after"), list(pairs()))
def test_a_training_goes_on_with_another_backend(
    device: str, before: Plan, after: Plan, stopped: Any, whole: Whole, tmp_path: Path
) -> None:
    """All pairs of them, with a graph and without: rates, steps and the end are as if it had not stopped."""
    (begun, first), (run, expected) = stopped(device, before), whole(WAVEFORMS, device)
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    second = train(WAVEFORMS, tmp_path, plan=after, resume=True, device=device)
    assert first.steps + second.steps == expected.steps
    assert first.rates + second.rates == expected.rates
    assert_same_end(tmp_path, run, 1e-8 if device == "cpu" else 1e-4)  # a GPU's update reads rates in float32


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_that_cannot_be_captured_is_taken_without_a_graph(
    recipe: str,
    whole: Whole,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And so are all after it, as if there had been none; the next run measures again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _keep(Choice(Plan(graph=True), 1.0))
    run, expected = whole(recipe, "cpu")
    noting = train(recipe, tmp_path, plan=IN_GRAPH, spoilt=True)
    assert json.loads(memory_file().read_text()) == {}
    assert (noting.steps, noting.rates) == (expected.steps, expected.rates)
    assert_same_end(tmp_path, run)
    failed = "RuntimeError: operation not permitted when stream is capturing"
    assert f"backend plain in a CUDA graph does not work any more ({failed})" in caplog.text
