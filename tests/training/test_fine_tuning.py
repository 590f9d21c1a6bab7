"""Runs that start from a trained model: what is taken, what is new, what stays as it is."""

import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from inference.known.files import file_of
from inference.known.files import weights as published_weights
from inference.models import checkpoint, description, model, network, noise
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.known.importing import import_file
from samplecnn.model.blocks import BLOCKS, Basic, Res2
from samplecnn.model.network import SampleCNN, last_layer
from samplecnn.model.networks.network import Network
from samplecnn.model.norm import BatchNorm
from samplecnn.model.probe import Probe
from samplecnn.runs.config import RunConfig, config_hash, read_config
from samplecnn.runs.folder import load_model
from samplecnn.runs.results import Results, read_results
from samplecnn.training import config as configuration
from samplecnn.training.config import ConfigError, started, validate
from samplecnn.training.evaluate import open_subject
from samplecnn.training.init import freeze
from samplecnn.training.job import train
from samplecnn.training.module import TaggingModule
from samplecnn.training.network import heard, make_module
from samplecnn.training.optimiser import KerasSGD, decay_groups, with_features_rate
from samplecnn.training.probe import probe
from samplecnn.training.resume import resumed
from samplecnn.training.stores import make_data
from training.stores import Clip, prepare_clips

CONF = Path(__file__).parents[2] / "conf"
TAGS = ["loud", "slow", "rare"]  # as the store has them


@dataclass(frozen=True)
class World:
    """A store, and tiny trainings on it."""

    root: Path

    def said(self, *overrides: str) -> list[str]:
        data = ["data=mtat", "data.name=tiny", f"data.root={self.root}", "logger=none", "fast=false"]
        small = ["trainer.accelerator=cpu", "trainer.precision=32", "batch_size=4", "trainer.max_epochs=1"]
        return [*data, *small, *overrides]

    def compose(self, *overrides: str) -> dict[str, Any]:
        said = self.said(*overrides)
        return started(validate(compose("train", overrides=said), overrides), overrides, Path)

    def train(self, run: Path, *overrides: str) -> Results:
        return train(self.compose(*overrides), run)

    def module(self, *overrides: str) -> TaggingModule:
        config = RunConfig.read(self.compose(*overrides), "here")
        return make_module(config, make_data(config, self.root / "tiny", *heard(config)).selection)


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Clips of one segment or two: eight to train on, two and two for the rest."""
    clips = [
        Clip(name, [1, n % 2, n % 5 == 0], (1 + n % 2) * 60_000, taps=1 + n % 4, seed=n)
        for n, name in enumerate("00000000ccdd")
    ]
    return World(prepare_clips(tmp_path_factory.mktemp("tiny"), TAGS, clips).parent)


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same data: its tags are the same."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        world.train(folder, "width=2", "block=res2", "multi=false")
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A checkpoint with other tags, of which one has a name of ours."""
    return checkpoint(tmp_path / "other.ckpt", tags=["slow", "sitar"])


def state(run: Path) -> dict[str, Tensor]:
    return load_model(run).network.state_dict()


def source(kind: str, tmp_path: Path, run: Path) -> Path:
    if kind == "run":
        return run
    if kind == "checkpoint":
        return checkpoint(tmp_path / "made.ckpt", tags=TAGS)
    folder = tmp_path / "bundle"
    if kind == "bundle":
        write_bundle(model(tmp_path, "rese2", tags=TAGS), folder, source="random")
        return folder
    file = tmp_path / "best_model.pth"
    file.write_bytes(file_of(published_weights("musicnn", len(TAGS))))
    write_bundle(import_file(file, TAGS).model, folder, source="random")
    return folder


@pytest.mark.parametrize("kind", ["run", "checkpoint", "bundle", "published"])
def test_the_same_function_at_the_start(
    world: World, run: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = source(kind, tmp_path, run)
    theirs = load_model(path).network
    ours = world.module(f"init={path}").network.eval()
    assert type(ours) is type(theirs)
    waveforms = noise()[:, : theirs.segment_samples]
    with torch.no_grad():
        assert torch.equal(ours(waveforms), theirs(waveforms))
    assert f"taken over: {len(theirs.state_dict())} tensors" in caplog.text
    assert "its 3 tags are those of the data: nothing is new" in caplog.text


def features(network: Network, waveforms: Tensor) -> Tensor:
    """What the last layer hears."""
    seen: list[Tensor] = []
    layer = network.get_submodule(last_layer(network))
    hook = layer.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        network(waveforms)
    hook.remove()
    return seen[0]


def test_other_tags_have_a_new_last_layer(
    world: World, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ours, theirs = world.module(f"init={other}", "seed=5").network.eval(), load_model(other).network
    assert torch.equal(features(ours, noise()), features(theirs, noise()))
    fresh = world.module("block=se", "block.alpha=2", "width=3", "seed=5").network
    for name, tensor in fresh.state_dict().items():
        if name.startswith("head_fc2."):
            assert torch.equal(ours.state_dict()[name], tensor)
    assert (
        "new: head_fc2.weight, head_fc2.bias, for 3 tags; "
        "the model has 2, of which 1 are of the same name and begin anew too" in caplog.text
    )


def test_another_order_of_tags_is_other_tags(world: World, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "turned.ckpt", tags=TAGS[::-1])
    ours, theirs = world.module(f"init={path}").network, load_model(path).network
    assert not torch.equal(ours.state_dict()["head_fc2.weight"], theirs.state_dict()["head_fc2.weight"])


def test_the_network_is_the_model_s(world: World, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", "rese2", multi=False, sample_rate=16_000, dropout=0.25)
    config = world.compose(f"init={path}")
    assert (config["block"]["name"], config["multi"], config["width"]) == ("rese2", False, 3)
    assert (config["rate"], config["dropout"]) == (16_000, 0.25)
    assert config["block"]["_target_"] == "samplecnn.model.blocks.ReSE2"
    same = world.compose(
        f"init={path}", "block=rese2", "block.alpha=2", "width=3", "multi=false", "dropout=0"
    )
    assert same["dropout"] == 0
    assert {**same, "dropout": 0.25} == config
    assert (
        world.compose(f"init={path}", "block.dropout=0.1", "block=rese2", "block.alpha=2")["block"]["dropout"]
        == 0.1
    )


def test_what_is_typed_may_leave_out_defaults(world: World, run: Path, tmp_path: Path) -> None:
    """A model's file may name options at their defaults, and so may the command line."""
    published = source("published", tmp_path, run)
    assert load_model(published).description.model.keys() == {"name", "mid", "dense"}
    assert world.compose(f"init={published}", "model=musicnn")["model"]["dense"] == 200
    assert world.compose(f"init={published}", "rate=16000")["rate"] is None  # its network's own, as typed
    with pytest.raises(ConfigError, match=r"leave out model=musicnn model\.dense=500$"):
        world.compose(f"init={published}", "model=musicnn", "model.dense=500")
    path = checkpoint(tmp_path / "res2.ckpt", "res2")  # says nothing of dropout
    assert world.compose(f"init={path}", "block=res2")["width"] == 3


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["block=res2"], r"\(se, multi-level, width 3, 22050 Hz\): leave out block=res2$"),
        (["block.alpha=8"], "leave out block.alpha=8$"),
        (["multi=false", "width=32"], "leave out multi=false width=32$"),
        (["model=rese2"], "leave out model=rese2$"),
        (["model=fcn"], "leave out model=fcn$"),
        (["rate=16000"], "leave out rate=16000$"),
    ],
)
def test_another_network_than_the_model_s(world: World, other: Path, typed: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=f"a run that starts from {re.escape(str(other))} .*{words}"):
        world.compose(f"init={other}", *typed)


class Own(Basic):
    """A block of one's own."""


def test_a_block_of_one_s_own_is_named_again(world: World, tmp_path: Path) -> None:
    told = description("basic", block={"name": "mine"})
    path = tmp_path / "mine.ckpt"
    weights = {f"network.{k}": v for k, v in network(told, mine=Basic).state_dict().items()}
    torch.save({"samplecnn": told, "state_dict": weights}, path)
    with pytest.raises(ConfigError, match=r"has block 'mine'.* block=custom block\.name=mine"):
        world.compose(f"init={path}")
    said = ["block=custom", "block.name=mine", f"block._target_={__name__}.Own"]
    assert world.compose(f"init={path}", *said)["block"]["name"] == "mine"


def test_what_is_no_model(world: World, other: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run folder or checkpoint nowhere"):
        world.compose("init=nowhere")
    whole = other.read_bytes()
    for data in (whole[: len(whole) // 2], b"", whole[:-500] + bytes(500), b"no model"):
        (tmp_path / "cut.ckpt").write_bytes(data)
        with pytest.raises(UserError, match=r"cut\.ckpt is not a checkpoint of samplecnn, or is damaged"):
            world.compose(f"init={tmp_path / 'cut.ckpt'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not a run folder with a trained model, nor a bundle"):
        world.compose(f"init={tmp_path / 'empty'}")


def test_the_weights_are_part_of_what_a_run_is(world: World, run: Path, other: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "moved")
    write_bundle(load_model(run), tmp_path / "bundle", source="trained")
    hashes = {
        config_hash(world.compose(f"init={path}")) for path in (run, tmp_path / "moved", tmp_path / "bundle")
    }
    assert len(hashes) == 1
    assert config_hash(world.compose(f"init={other}")) not in hashes
    frozen = world.compose(f"init={run}", "freeze=features")
    slow = world.compose(f"init={run}", "features_rate=0.1")
    assert len({*hashes, config_hash(frozen), config_hash(slow)}) == 3


def test_weights_that_changed_after_the_configuration(world: World, other: Path) -> None:
    config = RunConfig.read(world.compose(f"init={other}"), "here")
    selection = make_data(config, world.root / "tiny", *heard(config)).selection
    checkpoint(other, width=3, tags=["slow", "sitar"], multi=True)
    saved = torch.load(other, weights_only=True)
    saved["state_dict"]["network.head_fc2.bias"] += 1
    torch.save(saved, other)
    with pytest.raises(ConfigError, match=r"other\.ckpt holds other weights than before"):
        make_module(config, selection)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["freeze=features"], "freeze=features needs init"),
        (["features_rate=0.1"], r"features_rate=0\.1 needs init"),
        (["freeze=10"], "freeze=10: must be none, features or a whole number of 1 to 9"),
        (["features_rate=0"], "features_rate=0: must be a number greater than 0"),
        (["init=x", "freeze=features", "features_rate=0.1"], "there are no features that learn"),
        (["init=x", "model=fcn", "freeze=3"], "model=fcn has no such blocks; freeze=features works"),
        (["data.train_clips=0"], r"data\.train_clips=0: must be a whole number of at least 1, or null"),
    ],
)
def test_what_cannot_be(world: World, typed: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(compose("train", overrides=world.said(*typed)), typed)


def test_blocks_of_a_network_that_has_none(world: World, run: Path, tmp_path: Path) -> None:
    path = source("published", tmp_path, run)
    with pytest.raises(ConfigError, match="model=musicnn has no such blocks"):
        world.compose(f"init={path}", "freeze=3")


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


@pytest.mark.parametrize("options", [["freeze=4"], ["features_rate=0.1"]])
def test_resumed_without_the_model_it_started_from(
    world: World, run: Path, tmp_path: Path, options: list[str]
) -> None:
    shutil.copytree(run, tmp_path / "source")
    said = [f"init={tmp_path / 'source'}", *options]
    world.train(tmp_path / "whole", *said, "trainer.max_epochs=2")
    world.train(tmp_path / "parts", *said)
    shutil.rmtree(tmp_path / "source")
    again = [f"resume={tmp_path / 'parts'}", "trainer.max_epochs=2"]
    composed = validate(compose("train", overrides=world.said(*again)), again)
    assert started(composed, again, Path) is composed
    train(resumed(composed, again), tmp_path / "parts")
    for file in ("best", "last"):
        one, other = (
            torch.load(tmp_path / name / "checkpoints" / f"{file}.ckpt", weights_only=True)["state_dict"]
            for name in ("whole", "parts")
        )
        assert all(torch.equal(other[name], tensor) for name, tensor in one.items())


def test_trained_on_few_clips(world: World, run: Path, tmp_path: Path) -> None:
    said = [f"init={run}", "data.train_clips=2", "freeze=features"]
    results = world.train(tmp_path / "run", *said)
    plain = read_config(tmp_path / "run").plain
    assert plain["data"]["train_clips"] == 2
    assert plain["init"] == str(run)
    assert re.fullmatch("[0-9a-f]{64}", plain["init_sha256"])
    whole = world.train(tmp_path / "whole", f"init={run}", "freeze=features")
    assert results.split_hash == whole.split_hash
    assert results.config_hash != whole.config_hash
    assert open_subject(tmp_path / "run").scores().per_tag == results.test.per_tag
    with pytest.raises(UserError, match=r"data\.train_clips=9: the training part has 8 clips"):
        world.train(tmp_path / "more", "width=2", "data.train_clips=9")
    assert not (tmp_path / "more").exists()


def test_nothing_is_frozen_by_default() -> None:
    network = SampleCNN(BLOCKS["se"], tags=2, width=2)
    freeze(network, "none")
    assert all(p.requires_grad for p in network.parameters())
    assert all(m.training for m in network.modules())


def test_from_a_probe(world: World, other: Path, tmp_path: Path) -> None:
    """Network and classifier go on together; or the classifier alone, or all but some blocks."""
    source = tmp_path / "probes" / "source"
    probe(world.root / "tiny", other, source, name="other", kind="mlp", levels=("block9", "last"))
    tuned = tmp_path / "tuned"
    said = [f"init={source}", "schedule.learning_rate=0.01"]
    world.train(tuned, *said)
    before, after = load_model(source), load_model(tuned)
    assert after.description.probe == before.description.probe
    assert read_config(tuned).probe == before.description.probe
    assert isinstance(after.network, Probe)
    changed = {
        name.partition(".")[0]
        for name, tensor in after.network.state_dict().items()
        if tensor.is_floating_point() and not torch.equal(tensor, before.network.state_dict()[name])
    }
    assert changed == {"features", "fc", "last"}
    assert open_subject(tuned).scores().per_tag == read_results(tuned).test.per_tag
    goes_on = resumed(world.compose(f"resume={tuned}"), [f"resume={tuned}"])
    assert config_hash(goes_on) == config_hash(read_config(tuned).plain)
    module = world.module(*said, "freeze=features")
    trained = {name for name, parameter in module.network.named_parameters() if parameter.requires_grad}
    assert trained == {"last.weight", "last.bias"}
    module = world.module(*said, "freeze=4")
    trained = {name for name, parameter in module.network.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("features.stem", "features.blocks.3")) for name in trained)
    assert {"features.blocks.4.conv1.weight", "fc.weight"} <= trained
