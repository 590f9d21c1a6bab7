"""What the processes of a training on several devices come to: forked ones, so that a start takes no time."""

import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from e2e.conftest import World
from e2e.test_kills import Training, assert_same
from held import Place
from processes import Ranks, in_ranks
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.runs.config import RunConfig
from samplecnn.runs.folder import load_model
from samplecnn.runs.results import SplitScores, read_results
from samplecnn.training.init import with_model
from samplecnn.training.job import train
from samplecnn.training.launch import as_launched, rank
from samplecnn.training.network import make_module
from samplecnn.training.quiet import quiet_libraries
from samplecnn.training.trainer import make_trainer

OFTEN = "trainer.save_every_minutes=0.0005"  # a checkpoint at every step


def train_here(config: dict[str, Any], run: Path, said: Path, place: Place | None, last: int) -> None:
    """What each process does; rank 0 speaks, and the last stands at a place that there is."""
    with said.open("a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    logging.basicConfig(level=logging.INFO if rank() == 0 else logging.WARNING)
    torch.set_num_threads(1)
    if place is not None and rank() == last:
        place.stand()
    train(config, run)


class Together(Training):
    """A small training in several processes, started again and again in one folder."""

    def start_ranks(self, world: int, place: Place | None = None) -> Ranks:
        return Ranks(world, train_here, self.config, self.run, self.said, place, world - 1)

    def finish_ranks(self, world: int) -> None:
        assert set(self.start_ranks(world).statuses()) == {0}, self.said.read_text()[-4000:]

    def stop_ranks_within_second_epoch(self, world: int) -> None:
        """Have the last rank alone asked to stop."""
        ranks = self.start_ranks(world, self.within_second_epoch)
        while not self.within_second_epoch.reached():
            assert ranks.processes[0].is_alive(), self.said.read_text()
        ranks.processes[-1].terminate()
        self.within_second_epoch.leave()
        statuses = ranks.statuses()
        assert statuses == [128 + signal.SIGTERM] + [0] * (world - 1), self.said.read_text()


@pytest.fixture(scope="module")
def two(world: World) -> Together:
    """A training of two that nothing stopped."""
    training = Together(world, world.folder / "runs" / "ranks-two")
    training.finish_ranks(2)
    return training


def test_stopped_within_an_epoch_they_go_on_to_the_same_end(world: World, two: Together) -> None:
    training = Together(world, world.folder / "runs" / "ranks-stopped", OFTEN)
    training.stop_ranks_within_second_epoch(2)
    state = torch.load(training.run / "checkpoints/last.ckpt", weights_only=True)["callbacks"][
        "RunCheckpoint"
    ]
    assert (state["world"], len(state["random"])) == (2, 2)
    assert not torch.equal(state["random"][0]["cpu"], state["random"][1]["cpu"])
    training.finish_ranks(2)
    assert_same(training.outcome(), two.outcome())


@pytest.mark.parametrize("world_then", [1, 3])
def test_stopped_within_an_epoch_others_go_on(world: World, two: Together, world_then: int) -> None:
    """Of an epoch of all batches, what was not trained before is trained by another number of devices."""
    settings = [OFTEN, "trainer.limit_train_batches=null", "schedule=onecycle"]
    training = Together(world, world.folder / "runs" / f"ranks-then-{world_then}", *settings)
    training.stop_ranks_within_second_epoch(2)
    training.config["resume"] = str(training.run)  # the number of devices may change then
    training.finish_ranks(world_then)
    said = training.said.read_text()
    assert f"trained on 2 devices so far, from here on {world_then}" in said
    assert read_results(training.run).epochs == 3
    steps = [int(row.split(",")[1]) for row in (training.run / "metrics.csv").read_text().splitlines()[1:]]
    batches = int(said.split(" batches an epoch")[0].rsplit(" ", 1)[1]) * 2  # of one device
    assert abs(steps[0] - batches / 2) <= 1
    assert min(batches / 2, batches / world_then) - 1 <= steps[1] - steps[0]
    assert steps[1] - steps[0] <= max(batches / 2, batches / world_then) + 1
    assert abs(steps[2] - steps[1] - batches / world_then) <= 1
    rate = float((training.run / "metrics.csv").read_text().splitlines()[-1].split(",")[2])
    assert rate < 1e-3  # the cycle has come to its end


def evaluated(plain: dict[str, Any], run: Path) -> tuple[SplitScores, float, NDArray[np.float32]]:
    """A network's test in batches of three segments: scores, loss and the clips' probabilities."""
    torch.set_num_threads(1)
    quiet_libraries()
    config = RunConfig.read(as_launched(plain), "")
    data = SegmentDataModule(Path(config.data.root) / config.data.name, top=None, eval_batch_size=3)
    module = make_module(config, data.selection)
    trainer = make_trainer(config, run, logger=False, enable_checkpointing=False)
    trainer.test(module, datamodule=data, verbose=False)
    assert module.test_scores is not None
    assert module.test_probabilities is not None
    return module.test_scores, float(trainer.callback_metrics["test/loss"]), module.test_probabilities


def test_a_test_is_the_same_however_many_share_it(world: World, two: Together) -> None:
    """To the last bit: scores, loss and probabilities, with clips that are divided between processes."""
    one, *others = (in_ranks(number, evaluated, two.config, two.run) for number in (1, 2, 3, 4))
    ((scores, loss, probabilities),) = one
    assert scores.roc_auc is not None
    for results in others:
        for result in results:
            assert result[:2] == (scores, loss)
            np.testing.assert_array_equal(result[2], probabilities)


def test_three_stages_end_together(world: World, two: Together) -> None:
    """The same decisions everywhere, also where some of the validation batches are one rank's alone."""
    del two  # the data are prepared
    settings = [
        "trainer.max_epochs=null",
        "schedule.stages=3",
        "schedule.patience=0",
        "trainer.limit_train_batches=2",
    ]
    training = Together(world, world.folder / "runs" / "ranks-stages", *settings)
    training.finish_ranks(3)
    assert "Stage 3 ends" in training.said.read_text() or "Stage 2 ends" in training.said.read_text()
    rates = [float(row.split(",")[2]) for row in (training.run / "metrics.csv").read_text().splitlines()[1:]]
    assert len({f"{rate:.4f}" for rate in rates}) == 3


@pytest.mark.slow
def test_twenty_short_trainings(world: World, two: Together) -> None:
    for number in range(20):
        training = Together(world, world.folder / "runs" / f"ranks-{number}", f"seed={number}")
        training.finish_ranks(2 + 2 * (number % 2))
        shutil.rmtree(training.run)


@pytest.mark.slow
def test_frozen_parts_stay_on_all_ranks(world: World, two: Together) -> None:
    """From a trained model, two of whose ranks average the gradients of the rest alone."""
    training = Together(world, world.folder / "runs" / "ranks-frozen")
    path = two.run / "checkpoints/best.ckpt"
    plain = {**training.config, "init": str(path), "freeze": 4, "weight_decay": 0.1}
    training.config = with_model(plain, [], path)
    training.finish_ranks(2)
    before, after = (load_model(run).network.state_dict() for run in (two.run, training.run))
    frozen = ("stem_", *(f"blocks.{index}." for index in range(4)))
    for name, tensor in before.items():
        if name.startswith(frozen) or name.endswith(".weight"):
            assert torch.equal(after[name], tensor) == name.startswith(frozen), name
