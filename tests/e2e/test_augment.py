"""Trainings with augmentation: stopped and resumed, on several devices, and without it as before."""

import signal
from typing import Any

import pytest

from e2e.conftest import World
from e2e.test_kills import Training, assert_same
from e2e.test_ranks import Together
from samplecnn.runs.config import config_hash, read_config
from samplecnn.training.augment import CHANGES

ALL_ON = ["augment=waveform", *(f"augment.{name}=0.5" for name in (*CHANGES, "mixup"))]


@pytest.fixture(scope="module")
def plain(world: World) -> dict[str, Any]:
    """A training with the configuration of before the key was there."""
    training = Training(world, world.folder / "runs" / "augment-unknown")
    del training.config["augment"]
    training.finish()
    return training.outcome()


def test_none_is_as_before_the_key_was_there(world: World, plain: dict[str, Any]) -> None:
    training = Training(world, world.folder / "runs" / "augment-none", "augment=none")
    training.finish()
    assert_same(training.outcome(), plain)
    hashes = {
        config_hash(read_config(training.run.with_name(name)).plain)
        for name in ("augment-none", "augment-unknown")
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("chunks", ["null", pytest.param("2", marks=pytest.mark.slow)])
def test_stopped_within_an_epoch_it_goes_on_to_the_same_end(
    world: World, plain: dict[str, Any], chunks: str
) -> None:
    settings = [*ALL_ON, f"data.random_chunks={chunks}"]
    whole = Training(world, world.folder / "runs" / f"augmented-{chunks}", *settings)
    whole.finish()
    assert whole.outcome()["losses"] != plain["losses"]
    stopped = Training(world, world.folder / "runs" / f"augmented-stopped-{chunks}", *settings)
    stopped.stop_within_second_epoch(signal.SIGTERM)
    stopped.finish()
    assert_same(stopped.outcome(), whole.outcome())


@pytest.mark.slow
def test_on_two_devices(world: World, plain: dict[str, Any]) -> None:
    first, second = (
        Together(world, world.folder / "runs" / f"augmented-ranks-{number}", *ALL_ON) for number in range(2)
    )
    first.finish_ranks(2)
    second.finish_ranks(2)
    assert_same(first.outcome(), second.outcome())
    assert first.outcome()["losses"] != plain["losses"]


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["model=musicnn", "rate=16000"])
def test_other_models_and_rates(world: World, plain: dict[str, Any], choice: str) -> None:
    del plain  # the data are prepared
    run = world.folder / "runs" / f"augmented-{choice}"
    short = ["trainer.limit_train_batches=1", "trainer.max_epochs=1"]
    Training(world, run, *ALL_ON, choice, *short).finish()
    assert (run / "results.json").is_file()
