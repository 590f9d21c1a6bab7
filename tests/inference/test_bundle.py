"""Bundles: what is written is what is read, whole or not at all."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import samplecnn
from inference.models import TAGS, checkpoint, description, model, network, noise
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.onnx_export import OnnxFile
from samplecnn.model.blocks import BLOCKS, Basic
from samplecnn.model.network import SampleCNN
from samplecnn.runs.bundle import CARD, CONFIG, WEIGHTS
from samplecnn.runs.config import TrainerConfig
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import Model, load_model, read_config

MADE = "trained with samplecnn"


@pytest.mark.parametrize("multi", [True, False])
@pytest.mark.parametrize("kind", BLOCKS)
def test_the_same_probabilities(tmp_path: Path, kind: str, multi: bool) -> None:
    """From checkpoint, run folder and bundle, and from a bundle of the bundle: bit by bit."""
    best = checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", kind, multi=multi)
    write_bundle(load_model(best), tmp_path / "bundle", source=MADE)
    write_bundle(load_model(tmp_path / "bundle"), tmp_path / "second", source=MADE)
    paths = [best, tmp_path / "run", tmp_path / "bundle", tmp_path / "bundle" / WEIGHTS, tmp_path / "second"]
    taggers = [samplecnn.load(path, precision="32") for path in paths]
    expected = taggers[0].predict_segments(noise())
    assert expected.std(axis=0).max() > 0.01  # they depend on what is heard
    for tagger in taggers[1:]:
        assert tagger.tags == TAGS
        assert tagger.description == taggers[0].description
        np.testing.assert_array_equal(tagger.predict_segments(noise()), expected)


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    made = model(tmp_path)
    config = {
        "block": {"name": "se", "_target_": "samplecnn.model.blocks.SE", "alpha": 2},
        **{"multi": True, "width": 3, "dropout": 0.5, "weight_decay": 0.0, "schedule": {"stages": 5}},
        "seed": 3,
        "batch_size": 23,
        "fast": False,
        "resume": "/home/me/run",
        "logger": {"name": "wandb", "entity": "me"},
        "data": {
            **{
                "name": "mini",
                "split": "clean",
                "top": None,
                "raw": "/home/me/music",
                "root": "/home/me/data",
            },
            "catalog": {"_target_": "samplecnn.data.datasets.mini.catalog", "raw": "/home/me/music"},
        },
        "trainer": {"precision": "32", "accelerator": "cuda", "devices": 4},
    }
    write_bundle(made, tmp_path / "bundle", source=MADE, config=config)
    folder = tmp_path / "bundle"
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD, CONFIG, WEIGHTS])
    told = json.loads((folder / CONFIG).read_text())
    assert told["model"] == made.description.as_dict()
    assert told["weights"]["sha256"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert told["weights"]["bytes"] == (folder / WEIGHTS).stat().st_size
    assert set(told["versions"]) == {"samplecnn", "torch", "safetensors"}
    assert "/home/me" not in "".join(path.read_text() for path in (folder / CONFIG, folder / CARD))
    # Any reader of the format gets the network's own weights.
    read = load_file(folder / WEIGHTS)
    assert read.keys() == made.network.state_dict().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in made.network.state_dict().items())
    # For another machine the configuration is whole again.
    here = read_config(folder)
    assert (here.seed, here.batch_size, here.fast, here.data.name) == (3, 23, False, "mini")
    assert (here.data.root, here.data.raw, here.logger.name) == ("data", None, "none")
    assert here.trainer == TrainerConfig(precision="32", accelerator="auto", devices=1, log_every_n_steps=50)


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    made = model(tmp_path)
    for name in ("a", "b"):
        write_bundle(made, tmp_path / name / "bundle", source=MADE)
    for file in (WEIGHTS, CONFIG, CARD):
        assert (tmp_path / "a/bundle" / file).read_bytes() == (tmp_path / "b/bundle" / file).read_bytes()


def test_a_block_of_one_s_own(tmp_path: Path) -> None:
    told = description("basic", block={"name": "mine"})
    state = {f"network.{k}": v for k, v in network(told, mine=Basic).state_dict().items()}
    path = tmp_path / "a.ckpt"
    torch.save({"samplecnn": told, "state_dict": state}, path)
    write_bundle(load_model(path, {"mine": Basic}), tmp_path / "bundle", source=MADE)
    with pytest.raises(RunError, match=r"unknown block 'mine'.*passed in by the caller"):
        load_model(tmp_path / "bundle")
    read = load_model(tmp_path / "bundle", {"mine": Basic}).network
    assert isinstance(read, SampleCNN)
    assert isinstance(read.blocks[0], Basic)


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    made = model(tmp_path)

    def fail(_: Model, folder: Path) -> list[OnnxFile]:
        assert (folder / WEIGHTS).is_file()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(made, tmp_path / "out" / "bundle", source=MADE, onnx=fail)
    assert list((tmp_path / "out").iterdir()) == []
    write_bundle(made, tmp_path / "out" / "bundle", source=MADE)
    before = (tmp_path / "out/bundle" / CONFIG).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_bundle(made, tmp_path / "out" / "bundle", source="anew", onnx=fail, force=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]
    assert (tmp_path / "out/bundle" / CONFIG).read_bytes() == before


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    made = model(tmp_path)
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(made, folder, source=MADE)  # an empty folder may be filled
    with pytest.raises(RunError, match="is there already: --force replaces a bundle"):
        write_bundle(made, folder, source="anew")
    (folder / "model.onnx").write_text("of before")
    write_bundle(made, folder, source="anew", force=True)
    assert json.loads((folder / CONFIG).read_text())["source"] == "anew"
    assert not (folder / "model.onnx").exists()
    (folder / "notes.txt").write_text("dear diary")
    for force in (True, False):
        with pytest.raises(RunError, match=r"notes\.txt|there already"):
            write_bundle(made, folder, source="again", force=force)
    assert (folder / "notes.txt").read_text() == "dear diary"

    def meanwhile(_: Model, made: Path) -> list[OnnxFile]:
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "notes.txt").write_text("dear diary")
        return []

    with pytest.raises(RunError, match="there already"):
        write_bundle(made, tmp_path / "late", source=MADE, onnx=meanwhile)
    assert (tmp_path / "late" / "notes.txt").read_text() == "dear diary"
    (tmp_path / "file").write_text("a file")
    with pytest.raises(RunError, match="is not a folder"):
        write_bundle(made, tmp_path / "file", source=MADE, force=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written as JSON"):
        write_bundle(model(tmp_path), tmp_path / "bundle", source=MADE, config={"seed": float("nan")})
    assert not (tmp_path / "bundle").exists()


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_bundle(model(tmp_path), tmp_path / "link", source=MADE)
    assert (tmp_path / "real" / WEIGHTS).is_file()
    assert load_model(tmp_path / "link").tags == TAGS
