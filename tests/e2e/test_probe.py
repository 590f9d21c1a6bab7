"""A probe by command: trained on a run's embeddings, and put to all that a run is put to."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

import samplecnn
from e2e.conftest import World
from samplecnn.data.store import Store


@pytest.mark.slow
def test_from_a_run_to_tags(world: World, run: Path) -> None:
    probe, store = world.folder / "runs" / "probe" / "mine", world.folder / "data" / "mini"
    done = world.run("samplecnn", "probe", store, "--model", run, "--out", probe)
    results = json.loads((probe / "results.json").read_text())
    assert f"those of first, weights {results['versions']['weights']}" in done.stdout
    again = json.loads(world.run("samplecnn", "evaluate", "probe/mine", "--json").stdout)
    assert again["per_tag"] == results["test"]["per_tag"]

    song = next((world.folder / "data" / "raw").rglob(Store.open(store).clip_paths[0]))
    world.run("samplecnn", "thresholds", "probe/mine")
    world.run("samplecnn", "use", "probe/mine")
    (said,) = map(json.loads, world.run("samplecnn", "tag", song, "--json").stdout.splitlines())
    bundle = world.folder / "probe-bundle"
    exported = world.run("samplecnn", "export", "probe/mine", bundle, "--onnx", "--draws", "20")
    assert "model.onnx: opset" in exported.stdout
    card = (bundle / "README.md").read_text()
    assert "a logistic regression per tag" in card
    assert "of first" in card
    with safe_open(bundle / "model.safetensors", "pt") as weights:
        assert {"last.weight", "features.head_fc2.weight"} <= set(weights.keys())
    (same,) = map(
        json.loads, world.run("samplecnn", "tag", song, "--json", "--model", bundle).stdout.splitlines()
    )
    assert same["tags"] == said["tags"]
    assert set(said["tags"]) == set(samplecnn.load(probe).tags)
    decided = world.run("samplecnn", "tag", song, "--decide", "--json", "--model", bundle)
    assert decided.stdout
    world.run("samplecnn", "tag", song, "--over-time", "--csv", "--model", bundle)

    tuned = world.folder / "runs" / "tuned"
    overrides = ["data=mini", "data.clips=32", f"data.root={world.folder / 'data'}", "logger=none"]
    small = ["fast=false", "trainer.limit_train_batches=3", "trainer.max_epochs=1", f"hydra.run.dir={tuned}"]
    world.run("train.py", f"init={probe}", *overrides, *small)
    table = world.run("samplecnn", "report", probe, tuned, run, "--out", world.folder / "report")
    assert "linear-probe" in table.stdout
    world.run("samplecnn", "use", "--forget")
