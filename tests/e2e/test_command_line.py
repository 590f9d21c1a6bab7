"""Bad input on the command line, and the commands on a finished run."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

import samplecnn
from e2e.conftest import World
from held import Place, as_block

MY_BLOCK = '''
from torch import nn

from samplecnn.model.blocks import Basic


class Wide(Basic):
    """A basic block with a wider pooling window."""

    def __init__(self, in_channels, out_channels, *, window=3):
        super().__init__(in_channels, out_channels)
        self.pool = nn.MaxPool2d((1, window), stride=(1, 3), padding=(0, (window - 3) // 2))
'''


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["block=sse"], ["block/sse", "basic", "rese2"]),
        (["block.alpha=-1"], ["block.alpha=-1: must be a number greater than 0"]),
        (["resume=nope"], ["resume=nope: must be null or a run folder"]),
        (["resume=runs"], ["resume=runs: must be null or a run folder, which has a config.yaml"]),
        (["logger=null"], ["logger=null: choose csv, none, tensorboard, wandb, or leave it out"]),
        (["-m", "average=null,ema"], ["average=null,ema: choose ema, none, swa, or leave it out"]),
        (["widht=3"], ["widht", "did you mean width?"]),
        (["block=basic", "block.alpha=8"], ["block.alpha", "block has: name"]),
        (["data=mtat"], ["no prepared store", "python prepare.py", "data.raw=DIR"]),
        (["data=mtat", "data.raw=no/such/folder"], ["no such data folder", "no/such/folder"]),
        (["trainer.accelerator=cuda"], ["no CUDA device", "use cpu or auto"]),
        (["block=custom", "block.name=mine", "block._target_=nowhere.Block"], ["nowhere.Block", "imported"]),
        (
            ["block=custom", "block.name=se", "block._target_=torch.nn.Identity"],
            ["'se' is one of samplecnn's own blocks"],
        ),
    ],
)
def test_what_cannot_be_trained(world: World, overrides: list[str], words: list[str]) -> None:
    """It is said, and no folder is left behind."""
    import torch

    if "trainer.accelerator=cuda" in overrides and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    data = [] if "data=mtat" in overrides else world.data
    before = sorted(world.folder.glob("runs/**/*"))
    done = world.run("train.py", *data, f"data.root={world.folder / 'data'}", *overrides, status=1)
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(world.folder.glob("runs/**/*")) == before


def test_a_block_of_one_s_own(world: World) -> None:
    """From the command line, under its own name; read again only with its class passed in."""
    (world.folder / "my_module.py").write_text(MY_BLOCK)
    folder = world.folder / "runs" / "mine"
    custom = ["block=custom", "block.name=wide", "block._target_=my_module.Wide", "block.window=5"]
    world.train(folder, "trainer.max_epochs=1", "logger=none", *custom)
    assert json.loads((folder / "results.json").read_text())["block"] == "wide"
    with pytest.raises(ValueError, match=r"unknown block 'wide'.*passed in by the caller"):
        samplecnn.load(folder)
    refused = world.run("samplecnn", "evaluate", folder, status=1)
    assert "unknown block 'wide'" in refused.stderr
    world.run("samplecnn", "evaluate", folder, "--block", "wide=my_module.Wide")


def test_evaluate_gives_the_same_numbers(world: World, run: Path) -> None:
    told = json.loads((run / "results.json").read_text())["test"]
    again = json.loads(world.run("samplecnn", "evaluate", run, "--json").stdout)
    assert again == {key: told[key] for key in again}
    table = world.run("samplecnn", "evaluate", run).stdout
    assert f"{told['roc_auc']:.4f}" in table
    assert all(tag in table for tag in told["per_tag"])


def test_evaluate_under_disturbances(world: World, run: Path) -> None:
    """Stopped, it keeps what is measured, and the same command goes on."""
    folder = world.folder / "runs" / "disturbed"
    shutil.copytree(run, folder)
    file = folder / "robustness.json"
    command = ["evaluate", folder, "--under", "noise=20:10,pitch=-1:1,stretch,mp3,level=0"]
    place = Place(str(world.folder / "held"), str(file), '"noise": [')  # which has a result then
    process = World(world.folder, place.environment(world.folder)).start("samplecnn", *command, *as_block())
    while not place.reached():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    place.leave()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "the same command goes on" in err
    before = json.loads(file.read_text())
    assert "level" not in before["under"]
    table = world.run("samplecnn", *command).stdout
    after = json.loads(file.read_text())
    assert after["undisturbed"] == before["undisturbed"]
    assert after["under"]["noise"][0] == before["under"]["noise"][0]
    assert {name: len(points) for name, points in after["under"].items()} == {
        **{"noise": 2, "pitch": 2, "stretch": 4, "mp3": 5, "level": 1}
    }
    tested = json.loads((run / "results.json").read_text())["test"]
    for point in (after["undisturbed"], *after["under"]["level"]):
        assert [point["roc_auc"], point["pr_auc"]] == pytest.approx(
            [tested["roc_auc"], tested["pr_auc"]], abs=1e-3
        )
    assert f"{after['under']['mp3'][0]['roc_auc']:.4f}" in table


def test_example_shows_true_tags(world: World, run: Path) -> None:
    out = world.run("samplecnn", "example", run, fresh=True).stdout
    assert "of the test split" in out
    assert sum(line.endswith("true") for line in out.splitlines()) >= 2
    refused = world.run("samplecnn", "example", run, "--clip", "no-such-clip", status=1)
    assert "'no-such-clip' is not in the test split" in refused.stderr


def test_a_run_that_has_not_finished(world: World, run: Path) -> None:
    half = world.folder / "half"
    (half / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/best.ckpt"):
        shutil.copyfile(run / name, half / name)
    for command in ("evaluate", "example"):
        assert "half has not finished training" in world.run("samplecnn", command, half).stderr
        assert "has not finished" not in world.run("samplecnn", command, run).stderr


def test_tag_any_audio(world: World, run: Path) -> None:
    """Other rates, channels, lengths and formats; bad files are named and the rest is tagged."""
    rng = np.random.default_rng(0)
    folder = world.folder / "songs"
    folder.mkdir()
    soundfile.write(folder / "stereo.flac", 0.1 * rng.standard_normal((44100 * 4, 2)), 44100)
    soundfile.write(folder / "short.wav", 0.1 * rng.standard_normal(800), 8000)
    soundfile.write(folder / "song.ogg", 0.1 * rng.standard_normal(48000 * 7), 48000)
    soundfile.write(folder / "silence.wav", np.zeros(22050), 22050)
    nan = np.zeros(22050, dtype=np.float32)
    nan[11025] = np.nan
    soundfile.write(folder / "nan.wav", nan, 22050, subtype="FLOAT")
    (folder / "text.mp3").write_text("not music")
    (folder / "empty.mp3").write_bytes(b"")
    good = [folder / name for name in ("stereo.flac", "short.wav", "song.ogg", "silence.wav")]
    bad = [folder / name for name in ("nan.wav", "text.mp3", "empty.mp3", "missing.mp3")]
    done = world.run("samplecnn", "tag", *good, *bad, "--model", run, "--json", status=3)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["file"]) for line in lines] == [*good, *bad]
    for line in lines[: len(good)]:
        assert set(line["tags"]) == set(samplecnn.load(run).tags)
        assert all(0 <= p <= 1 for p in line["tags"].values())
    for path, line in zip(bad, lines[len(good) :], strict=True):
        assert path.name in line["error"]
        assert path.name in done.stderr
    text = world.run(
        "samplecnn", "tag", good[0], "--model", run / "checkpoints" / "best.ckpt", "--top", 3
    ).stdout
    assert sum("%" in line for line in text.splitlines()) == 3


def test_tag_finds_the_newest_run(world: World, run: Path) -> None:
    (run / "results.json").touch()
    path = world.folder / "tone.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(66150) / 10), 22050)
    assert "model: runs/first" in world.run("samplecnn", "tag", path).stdout


def test_the_python_interface(world: World, run: Path) -> None:
    tagger = samplecnn.load(run)
    rng = np.random.default_rng(0)
    segments = (0.1 * rng.standard_normal((3, 59049))).astype(np.float32)
    probabilities = tagger.predict_segments(segments)
    assert probabilities.shape == (3, len(tagger.tags))
    assert tagger.sample_rate == 22050
    mean = tagger.predict(segments.ravel(), 22050)
    np.testing.assert_allclose(mean, probabilities.mean(axis=0), atol=1e-6)
    stereo = np.stack([segments.ravel(), segments.ravel()])
    np.testing.assert_allclose(tagger.predict(stereo, 22050), mean, atol=1e-6)


def test_usage_errors(world: World) -> None:
    assert "--top" in world.run("samplecnn", "tag", "x.mp3", "--top", "0", status=2).stderr
    said = world.run("samplecnn", "evaluate", "nothing", status=1).stderr
    assert "there is no run folder or checkpoint nothing" in said
    assert "not a checkpoint" in world.run("samplecnn", "tag", "x.mp3", "--model", __file__, status=1).stderr
