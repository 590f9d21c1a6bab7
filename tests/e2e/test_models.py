"""Models to give away: export a run, use the bundle wherever a run is used, import the authors' weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from e2e.conftest import World
from inference.keras_files import KERAS
from inference.models import checkpoint
from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.data.store import Store
from samplecnn.training.evaluate import validation_segments

TAKEN = "is there already: --force replaces a bundle"


@pytest.fixture(scope="module")
def bundle(world: World, run: Path) -> Path:
    folder = world.folder / "given" / "away"
    out = world.run("samplecnn", "export", run, folder, "--draws", "50", fresh=True).stdout
    assert [Path(line.split("  ")[0]).name for line in out.splitlines()] == [
        *("config.json", "model.safetensors", "README.md")
    ]
    return folder


def test_what_is_told_of_the_run(world: World, run: Path, bundle: Path) -> None:
    text = (bundle / "config.json").read_text()
    told = json.loads(text)
    results = json.loads((run / "results.json").read_text())
    assert told["results"]["config_hash"] == results["config_hash"]
    assert told["model"]["split_hash"] == results["split_hash"]
    assert told["config"]["seed"] == 3
    assert str(world.folder) not in text + (bundle / "README.md").read_text()
    test = told["results"]["test"]
    for scores in (test, *test["per_tag"].values()):  # of too few clips for an interval
        assert scores["roc_auc_interval"] is scores["pr_auc_interval"] is None
    assert f"| **mean** | {results['test']['roc_auc']:.4f} " in (bundle / "README.md").read_text()


def test_commands_take_it_for_a_run(world: World, run: Path, bundle: Path) -> None:
    path = world.folder / "tone.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(150_000) / 10), 22050)
    said = [
        json.loads(world.run("samplecnn", "tag", path, "--model", model, "--json").stdout)
        for model in (run, run / "checkpoints" / "best.ckpt", bundle)
    ]
    assert [line["model"] for line in said] == [run.name, run.name, bundle.name]
    assert said[0]["tags"]
    assert said[0]["tags"] == said[1]["tags"] == said[2]["tags"]
    told = json.loads((run / "results.json").read_text())["test"]
    again = json.loads(
        world.run("samplecnn", "evaluate", bundle, "--data-root", world.folder / "data", "--json").stdout
    )
    assert again == {key: told[key] for key in again}
    under = ["--data-root", world.folder / "data", "--under", "level=0", "--out", world.folder / "disturbed"]
    world.run("samplecnn", "evaluate", bundle, *under)
    assert (world.folder / "disturbed" / "robustness.svg").is_file()
    assert sorted(path.name for path in bundle.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_bundle_of_a_bundle(world: World, run: Path, bundle: Path) -> None:
    world.run("samplecnn", "export", bundle, world.folder / "copy")
    for name in ("config.json", "model.safetensors"):
        assert (world.folder / "copy" / name).read_bytes() == (bundle / name).read_bytes()


def test_what_is_not_exported(world: World, run: Path, bundle: Path) -> None:
    assert TAKEN in world.run("samplecnn", "export", run, bundle, status=1).stderr
    world.run("samplecnn", "export", run, bundle, "--force", "--draws", "50")
    assert "is not of a bundle" in world.run("samplecnn", "export", run, run, "--force", status=1).stderr
    assert "no run folder" in world.run("samplecnn", "export", "nothing", "out", status=1).stderr
    assert "say --onnx --half" in world.run("samplecnn", "export", run, "out", "--half", status=1).stderr
    assert not (world.folder / "out").exists()


def test_the_authors_weights(world: World) -> None:
    weights, folder = KERAS / "rese-multi-narrow.hdf5", world.folder / "authors"
    out = world.run("samplecnn", "import-keras", weights, folder, fresh=True).stdout
    assert "rese2, alpha 2, multi-level, width 8, 50 tags" in out
    path = world.folder / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(150_000), 22050)
    tagged = world.run("samplecnn", "tag", path, "--model", folder, "--json").stdout
    assert len(json.loads(tagged)["tags"]) == 50
    refused = world.run("samplecnn", "evaluate", folder, status=1).stderr
    assert "imported from rese-multi-narrow.hdf5" in refused
    assert "on which data set, split and batches to test it is not known" in refused
    (world.folder / "tags.txt").write_text("\n".join(["one", "two", "one"]))
    for arguments, words in (
        ([weights, folder], TAKEN),
        ([__file__, "out"], "is not an HDF5 file"),
        ([weights, "out", "--tags", "tags.txt"], "tags.txt, line 3: 'one' is empty, repeated"),
        ([weights, "out", "--tags", __file__], "line 2: '' is empty"),
    ):
        assert words in world.run("samplecnn", "import-keras", *arguments, status=1).stderr
    assert not (world.folder / "out").exists()


@pytest.mark.slow
def test_onnx(world: World, bundle: Path) -> None:
    folder = world.folder / "with onnx"
    out = world.run("samplecnn", "export", bundle, folder, "--onnx", "--half", "--license", "mit").stdout
    assert "model.onnx: opset 18" in out
    assert "model_fp16.onnx: opset 18" in out
    text = (folder / "README.md").read_text()
    assert "license: mit" in text
    assert "| `model.onnx` | 18 |" in text
    assert "Cut into segments of 59049 samples" in text


def test_onnx_in_integers(world: World, tmp_path: Path) -> None:
    """Calibrated on music that is named."""
    model, folder, music = (
        checkpoint(tmp_path / "made.ckpt", width=8),
        tmp_path / "bundle",
        tmp_path / "music",
    )
    music.mkdir()
    for seed in range(3):
        waveform = 0.1 * np.random.default_rng(seed).standard_normal(25 * 22_050)
        soundfile.write(music / f"{seed}.flac", waveform, 22_050)
    refused = world.run("samplecnn", "export", model, folder, "--onnx", "--int8", status=1).stderr
    assert "not a run with data of its own: name music, --int8 --calibrate PATH" in refused
    arguments = (model, folder, "--onnx", "--int8", "--calibrate", music)
    out = world.run("samplecnn", "export", *arguments).stdout
    assert re.search(r"model_int8\.onnx: opset 18, .* probabilities in the mean within \d", out)
    assert "| `model_int8.onnx` | 18 |" in (folder / "README.md").read_text()
    for wrong in (["--int8"], ["--onnx", "--calibrate", str(music)]):
        assert "say --onnx --int8" in world.run("samplecnn", "export", model, "out", *wrong, status=1).stderr


def test_integers_that_do_not_agree(world: World, run: Path) -> None:
    """A network of two channels: calibrated on the run's clips, compared on others, not written."""
    refused = world.run(
        "samplecnn", "export", run, "out", "--onnx", "--int8", "--draws", "50", status=1
    ).stderr
    assert re.search(r"model_int8\.onnx are off by .*, more than 2e-02: nothing is written", refused)
    assert not (world.folder / "out").exists()
    store = Store.open(world.folder / "data" / "mini")
    clips = store.select("clean", None).parts["valid"].clips
    found, of_clips = validation_segments(run, 30)
    assert found.shape == (10 * len(clips), SEGMENT_SAMPLES)  # all that there are
    assert of_clips.tolist() == [clip for clip in range(len(clips)) for _ in range(10)]
    np.testing.assert_array_equal(found[0] * 32768, store.clip(int(clips[0]))[:SEGMENT_SAMPLES])
