"""Runs that start from a trained model: what is taken, what is new, and what a run remembers of it."""

import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose
from torch import Tensor

from inference.models import checkpoint, description, network, noise
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.model.blocks import Basic
from samplecnn.model.network import last_layer
from samplecnn.model.networks.network import Network
from samplecnn.model.probe import Probe
from samplecnn.runs.config import RunConfig, config_hash, read_config
from samplecnn.runs.folder import load_model
from samplecnn.runs.results import read_results
from samplecnn.training.config import ConfigError, started, validate
from samplecnn.training.evaluate import open_subject
from samplecnn.training.job import train
from samplecnn.training.network import heard, make_module
from samplecnn.training.probe import probe
from samplecnn.training.resume import resumed
from samplecnn.training.stores import make_data
from training.fine_tuning import TAGS, World, source, train_source, write_world

pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_source(world, tmp_path_factory.mktemp("runs") / "source")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A checkpoint with other tags, of which one has a name of ours."""
    return checkpoint(tmp_path / "other.ckpt", tags=["slow", "sitar"])


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
