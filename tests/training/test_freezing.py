"""Runs that start from a trained model: what of it is frozen, and what learns at a rate of its own."""

from pathlib import Path

import pytest
import torch

from samplecnn.model.blocks import BLOCKS, Res2
from samplecnn.model.network import SampleCNN
from samplecnn.model.norm import BatchNorm
from samplecnn.training.init import freeze
from samplecnn.training.optimiser import KerasSGD, decay_groups, with_features_rate
from training.fine_tuning import World, source, state, train_source, write_world

pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_source(world, tmp_path_factory.mktemp("runs") / "source")


@pytest.mark.parametrize("what", ["features", "4"])
@pytest.mark.parametrize("how", ["schedule=paper", "schedule=won", "average=ema", "average=swa"])
def test_what_is_frozen_stays_as_it_is(world: World, run: Path, tmp_path: Path, what: str, how: str) -> None:
    """Bit by bit: weights, running statistics and their counts, under weight decay."""
    decay = "schedule.weight_decay" if how == "schedule=won" else "weight_decay"
    said = [f"init={run}", f"freeze={what}", f"{decay}=0.1", how, "schedule.learning_rate=0.01"]
    world.train(tmp_path / "run", *said, "seed=3")
    before, after = state(run), state(tmp_path / "run")
    parts = ("stem_", *(f"blocks.{i}." for i in range(9 if what == "features" else int(what))))
    frozen = {name for name in before if name.startswith(parts)}
    if what == "features":
        frozen = {name for name in before if not name.startswith("head_fc2.")}
    assert any(name.endswith("running_var") for name in frozen)
    for name, tensor in before.items():
        if name in frozen or name.endswith(".weight"):
            assert torch.equal(after[name], tensor) == (name in frozen), name
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (optimiser,) = saved["optimizer_states"]
    count = sum(len(group["params"]) for group in optimiser["param_groups"])
    trained = [name for name in before if name not in frozen and name.endswith((".weight", ".bias"))]
    assert count == len(trained)


def test_other_networks_freeze_their_features(world: World, run: Path, tmp_path: Path) -> None:
    path = source("published", tmp_path, run)
    world.train(tmp_path / "run", f"init={path}", "freeze=features", "trainer.limit_train_batches=2")
    before, after = state(path), state(tmp_path / "run")
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {"last.weight", "last.bias"}


def test_frozen_parts_have_no_training_mode() -> None:
    made = SampleCNN(BLOCKS["res2"], tags=2, width=2)
    freeze(made, 3)
    for mode in (True, False, True):
        made.train(mode)
        assert [block.training for block in made.blocks] == [False] * 3 + [mode] * 6
        assert made.head_bn.training == mode
    assert not any(m.training for block in made.blocks[:3] for m in block.modules())
    block = made.blocks[0]
    assert isinstance(block, Res2)
    x = torch.rand(2, 2, 1, 27)
    assert torch.equal(block(x), block(x))  # it drops nothing


def test_statistics_begin_anew_where_they_are_trained(world: World, run: Path) -> None:
    """They are of other data: a batch weighs as much as in a fresh network. Frozen ones keep their count."""
    network = world.module(f"init={run}", "freeze=4").network
    assert isinstance(network, SampleCNN)
    counts = {
        name: int(norm.num_batches_tracked or 0)
        for name, norm in network.named_modules()
        if isinstance(norm, BatchNorm)
    }
    frozen = {
        name: n
        for name, n in counts.items()
        if name.startswith(("stem_bn", *(f"blocks.{i}." for i in range(4))))
    }
    assert set(frozen.values()) == {3}
    assert {n for name, n in counts.items() if name not in frozen} == {0}


def test_the_rate_of_features() -> None:
    """With gradients of 1, the first step of Keras' SGD is ``rate * 1.9``."""
    torch.manual_seed(0)
    network = SampleCNN(BLOCKS["se"], tags=2, width=2)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    groups = with_features_rate(decay_groups(network, 0.0), network, 0.1)
    assert groups[0]["rate_factor"] == 1  # its rate is the schedule's
    optimiser = KerasSGD(groups, lr=0.0)
    for group in optimiser.param_groups:
        group["lr"] = 0.01 * group["rate_factor"]
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    for name, p in network.named_parameters():
        rate = 0.01 if name.startswith("head_fc2.") else 0.001
        torch.testing.assert_close(p.detach(), before[name] - 1.9 * rate, rtol=0, atol=1e-6)
    assert with_features_rate(decay_groups(network, 0.0), network, 1.0)[0].keys() == {
        "params",
        "weight_decay",
    }


@pytest.mark.parametrize("schedule", ["paper", "onecycle", "won", "cosine"])
def test_every_schedule_multiplies_it(world: World, run: Path, tmp_path: Path, schedule: str) -> None:
    world.train(tmp_path / "run", f"init={run}", "features_rate=0.1", f"schedule={schedule}")
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    groups = saved["optimizer_states"][0]["param_groups"]
    table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    rate = float(dict(zip(table[0].split(","), table[1].split(","), strict=True))["learning_rate"])
    assert [group["lr"] for group in groups] == pytest.approx([rate] + [0.1 * rate] * (len(groups) - 1))
    assert len(groups[0]["params"]) == 2  # the last layer
    assert rate > 0


def test_nothing_is_frozen_by_default() -> None:
    network = SampleCNN(BLOCKS["se"], tags=2, width=2)
    freeze(network, "none")
    assert all(p.requires_grad for p in network.parameters())
    assert all(m.training for m in network.modules())
