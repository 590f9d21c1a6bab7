"""Each network of the field from the command line to its scores, on a small set of real files."""

import asyncio
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose

from samplecnn.analysis.report import make_report
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.onnx_export import SPECTROGRAM_TOLERANCE, write_onnx
from samplecnn.inference.page.app import describe
from samplecnn.inference.page.tagging import lines
from samplecnn.inference.tagger import load
from samplecnn.model.excitation import ExcitationError, se_layers
from samplecnn.model.norm import BatchNorm
from samplecnn.runs.config import read_config
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import load_model, read_description
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.results import Results, read_results
from samplecnn.runs.run import read_run
from samplecnn.training import config as configuration
from samplecnn.training.config import ConfigError
from samplecnn.training.evaluate import open_data, open_subject
from samplecnn.training.job import train
from samplecnn.training.resume import resumed
from training.composing import composing
from training.stores import Clip, prepare_clips

pytestmark = pytest.mark.usefixtures("hydra")

HEARD = {  # samples at once, all at 16 kHz
    "fcn": 464_000,
    "crnn": 464_000,
    "musicnn": 48_000,
    "shortchunk": 59_049,
    "shortchunk_res": 59_049,
    "harmonic": 80_000,
    "timbre": 48_000,
    "dieleman": 48_000,
    "dieleman_raw": 48_000,
}
RATE = 16_000  # Hz, of the files


@dataclass(frozen=True)
class World:
    """Raw files and stores of them, by sample rate."""

    raw: Path
    root: Path

    def compose(self, *overrides: str) -> dict[str, Any]:
        data = ["data=mtat", "data.name=tiny", f"data.root={self.root}", "+data.test_segments=1"]
        small = ["trainer.accelerator=cpu", "trainer.precision=32", "logger=none", "batch_size=2"]
        short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2"]
        said = [*data, *small, *short, *overrides]
        return configuration.validate(compose("train", overrides=said), said)

    def train(self, run: Path, *overrides: str) -> Results:
        return train(self.compose(*overrides), run)


def tiny(folder: Path) -> World:
    """Two clips in each part, a little longer than 29 s; a store at 22,050 Hz."""
    clips = [Clip(name, [1, n % 2], round(29.5 * RATE), taps=8, seed=n) for n, name in enumerate("00ccdd")]
    store = prepare_clips(folder, ["loud", "slow"], clips, RATE)
    return World(folder / "raw", store.parent)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("model", HEARD)
def test_a_network_is_trained_tested_and_tagged_with(world: World, tmp_path: Path, model: str) -> None:
    run = tmp_path / "run"
    results = world.train(run, f"model={model}", "data.random_chunks=1", "weight_decay=1e-4")
    assert results.model == read_config(run).model["name"] == model.partition("_")[0]
    assert not {"block", "multi", "width", "running_statistics"} & read_config(run).plain.keys()
    assert read_results(run).as_dict() == json.loads(json.dumps(results.as_dict()))
    assert "block" not in results.as_dict()
    description = read_description(run)
    assert (description.sample_rate, description.segment_samples) == (RATE, HEARD[model])

    again = open_subject(run).scores()
    assert again.per_tag == results.test.per_tag
    predictions = read_predictions(run)
    assert predictions is not None
    data = open_data(run)
    (batch,) = (data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader())
    assert batch.waveforms.shape == (2, HEARD[model])
    tagger = load(run, precision="32")
    np.testing.assert_allclose(
        tagger.predict_segments(batch.waveforms), predictions.probabilities, rtol=0, atol=1e-5
    )
    timeline = tagger.timeline(world.raw / "mp3" / "d" / "4.wav")
    assert timeline.segment_seconds == HEARD[model] / RATE
    assert len(timeline.starts) == max(1, round(29.5 * RATE) // HEARD[model])

    write_bundle(load_model(run), tmp_path / "bundle", source="made by a test", results=results)
    np.testing.assert_array_equal(
        load(tmp_path / "bundle", precision="32").predict_segments(batch.waveforms),
        tagger.predict_segments(batch.waveforms),
    )
    assert f"segments of {HEARD[model]:,} samples at 16,000 Hz" in (tmp_path / "bundle/README.md").read_text()
    assert read_run(run).settings["model.name"] == results.model


def test_a_model_as_onnx_says_what_it_hears(world: World, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    world.train(tmp_path / "run", "model=dieleman")
    model = load_model(tmp_path / "run")
    (file,) = write_onnx(model, tmp_path)
    noted = onnxruntime.InferenceSession(file.path).get_modelmeta().custom_metadata_map
    assert (noted["sample_rate"], noted["segment_samples"]) == ("16000", "48000")
    assert "segments of 48000 samples" in noted["framing"]


def test_what_onnx_does_not_have_is_said(dieleman: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = load_model(dieleman)
    forward = model.network.forward
    model.network.forward = lambda waveforms: forward(torch.special.bessel_j0(waveforms))
    with pytest.raises(UserError, match=r"End-to-end cannot be exported to ONNX: .*bessel_j0"):
        write_onnx(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_cuts_as_the_network_hears(dieleman: Path) -> None:
    tagger = load(dieleman, precision="32")
    samples = np.random.default_rng(0).normal(scale=0.1, size=3 * 48_000 + 5).astype(np.float32)

    async def told() -> list[dict[str, Any]]:
        return [json.loads(line) async for line in lines(tagger, samples, asyncio.Lock())]

    first, batch, last = asyncio.run(told())
    assert (first["segments"], first["segment_seconds"]) == (3, 3.0)
    expected = tagger.predict_segments(samples[: 3 * 48_000].reshape(3, -1))
    np.testing.assert_allclose(batch["probabilities"], expected, rtol=0, atol=6e-5)
    assert batch["excitations"] == {}
    np.testing.assert_allclose(last["mean"], expected.mean(axis=0), rtol=1e-5)
    assert describe("d", tagger)["about"].startswith("dieleman, input mel, filters 32, 2 tags of tiny")


@pytest.mark.slow
@pytest.mark.parametrize("model", HEARD)
def test_every_network_can_be_onnx(world: World, tmp_path: Path, model: str) -> None:
    world.train(tmp_path / "run", f"model={model}")
    whole, half = write_onnx(load_model(tmp_path / "run"), tmp_path, half=True)
    assert whole.difference <= SPECTROGRAM_TOLERANCE
    assert half.bytes < 0.6 * whole.bytes


@pytest.mark.parametrize("model", ["musicnn", "dieleman_raw"])
def test_half_precision_leaves_the_spectrogram_alone(world: World, tmp_path: Path, model: str) -> None:
    world.train(tmp_path / "run", f"model={model}")
    segments = np.random.default_rng(0).normal(scale=0.1, size=(3, 48_000)).astype(np.float32)
    half, whole = (load(tmp_path / "run", precision=p).predict_segments(segments) for p in ("bf16", "32"))
    np.testing.assert_allclose(half, whole, rtol=0, atol=0.02)
    assert half.dtype == whole.dtype == np.float32


def test_samplecnn_at_16_khz(world: World, tmp_path: Path) -> None:
    """From a store at that rate, which raw audio at hand makes; what is tagged is resampled to it."""
    said = ["width=2", "rate=16000", f"data.root={tmp_path}", f"data.raw={world.raw}", "data.name=at16"]
    results = world.train(tmp_path / "run", *said)
    assert Store.open(tmp_path / "at16-16000").sample_rate == RATE
    assert not (tmp_path / "at16").exists()
    description = read_description(tmp_path / "run")
    assert (description.sample_rate, description.segment_samples) == (RATE, 59_049)
    assert open_subject(tmp_path / "run").scores().per_tag == results.test.per_tag
    timeline = load(tmp_path / "run").timeline(world.raw / "mp3" / "d" / "4.wav")
    assert timeline.segment_seconds == 59_049 / RATE


def test_a_network_hears_its_own_rate_alone(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="network 'fcn' hears 16000 Hz, not 22050"):
        world.train(tmp_path / "run", "model=fcn", "rate=22050")
    assert not (tmp_path / "run").exists()
    assert world.train(tmp_path / "raw", "model=dieleman_raw", "rate=22050").model == "dieleman"
    assert read_description(tmp_path / "raw").sample_rate == 22_050


def test_a_store_of_another_rate_serves(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so; the scores of both are those of the same clips, and nearly the same."""
    caplog.set_level(logging.INFO)
    resampled = world.train(tmp_path / "resampled", "model=timbre")
    assert re.search(
        r"there is no store .*tiny-16000 \(samplecnn prepare rate=16000 makes it\): .*22050 Hz", caplog.text
    )
    caplog.clear()
    root = tmp_path / "stores"
    prepare(mtat.catalog(world.raw, "tiny"), root, rate=RATE, workers=1, progress=False)
    own = world.train(tmp_path / "own", "model=timbre", f"data.root={root}")
    assert "resampled" not in caplog.text
    assert own.split_hash == resampled.split_hash
    assert own.test.loss == pytest.approx(resampled.test.loss, rel=0.1)  # what is lost is above 7 kHz
    assert open_subject(tmp_path / "resampled").scores().per_tag == resampled.test.per_tag
    with pytest.raises(ConfigError, match=r"no prepared store .*nowhere/tiny-16000.* rate=16000` downloads"):
        world.train(tmp_path / "none", "model=timbre", f"data.root={tmp_path / 'nowhere'}")


MINE = """
from samplecnn.model.networks.dieleman import Dieleman

class Mine(Dieleman):
    segment_samples = 48_000
"""


def test_a_network_of_one_s_own(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_network_module.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = ["model=custom", "model.name=mine", "model._target_=own_network_module.Mine", "model.filters=8"]
    run = tmp_path / "run"
    results = world.train(run, *said, "model.input=raw")
    assert results.model == "mine"
    assert read_description(run).model == {"name": "mine", "filters": 8, "input": "raw"}
    with pytest.raises(RunError, match=r"unknown network 'mine'.*passed in by the caller: networks="):
        load(run)
    own = {"mine": resolve_name("own_network_module.Mine")}
    assert load(run, networks=own).segment_samples == 48_000
    assert open_subject(run, networks=own).scores().per_tag == results.test.per_tag
    for taken in ("fcn", "samplecnn"):
        said[1] = f"model.name={taken}"
        with pytest.raises(UserError, match=f"'{taken}' is one of samplecnn's own networks"):
            world.train(tmp_path / "taken", *said)
    for target, message in (
        ("own_network_module.Nothing", "cannot be imported"),
        ("samplecnn.model.blocks.SE", r"is not a samplecnn\.model\.networks\.network\.Network"),
        ("samplecnn.model.architecture.build", "cannot be imported: Located non-class"),
    ):
        with pytest.raises(ConfigError, match=message):
            world.train(tmp_path / "wrong", "model=custom", "model.name=mine", f"model._target_={target}")
    with pytest.raises(
        UserError, match=r"cannot be built with .*'speed': 2.*It takes input, filters, dropout"
    ):
        world.train(tmp_path / "wrong", "model=dieleman", "+model.speed=2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "fcn"}, "segment_samples": 464_000}, "lacks weights of the network"),
        ({"segment_samples": 59_049}, "the network hears 59,049 samples at once; End-to-end hears 48,000"),
        ({"segment_samples": 0}, "segment_samples=0 must be a whole number of at least 1"),
        ({"sample_rate": 22_050}, "network 'dieleman' hears 16000 Hz, not 22050"),
        ({"model": {"name": "../x"}}, "model=.* must be an object with a name"),
        ({"model": {"name": "dieleman", "input": "x"}}, "input must be one of mel, raw, not 'x'"),
        ({"model": {"name": "dieleman", "width": 3}}, "cannot be built with .*'width': 3"),
        ({"model": {"name": "samplecnn"}}, "has no block"),
        ({"model": None}, "model=None must be an object with a name"),
    ],
)
def test_files_that_say_something_else(
    dieleman: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    checkpoint = torch.load(dieleman / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["samplecnn"] |= changes
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    with pytest.raises(RunError, match=message):
        load_model(tmp_path / "changed.ckpt")


@pytest.fixture(scope="module")
def dieleman(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network."""
    run = tmp_path_factory.mktemp("dieleman") / "run"
    with composing():
        world.train(run, "model=dieleman")
    return run


def test_a_network_has_no_excitations(dieleman: Path) -> None:
    with pytest.raises(ExcitationError, match="End-to-end has no blocks with squeeze-and-excitation"):
        se_layers(load_model(dieleman).network)


def test_a_run_is_resumed_with_its_model(world: World, tmp_path: Path) -> None:
    world.train(tmp_path / "run", "model=dieleman", "schedule=won", "data.random_chunks=1")
    plain = world.compose("trainer.max_epochs=2", f"resume={tmp_path / 'run'}")
    again = resumed(plain, ["trainer.max_epochs=2"])
    assert again["model"] == read_config(tmp_path / "run").model
    assert train(again, tmp_path / "run").epochs == 2


def test_networks_side_by_side_in_a_report(world: World, dieleman: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    world.train(runs / "se", "width=2")
    world.train(runs / "res", "model=shortchunk_res")
    world.train(runs / "timbre", "model=timbre", "dropout=0.1")
    report = make_report([runs, dieleman], tmp_path / "report", draws=10)
    assert len(report.groups) == 1
    rows = {row["cell"] for name, table in report.tables for row in table.records if table.name == "table1"}
    assert rows == {"SE, multi", "End-to-end", "Short-chunk CNN res", "Timbre CNN dropout 0.1"}
    (missing,) = (table for _, table in report.tables if table.name == "runs")
    assert {(row["model"], row["block"]) for row in missing.records} == {
        ("samplecnn", "se"),
        ("dieleman", None),
        ("shortchunk", None),
        ("timbre", None),
    }


def test_running_statistics_are_right_from_the_first_step(dieleman: Path) -> None:
    """Those of a network without the choice, whose batch norm is of the kind that SampleCNN's is."""
    norm = load_model(dieleman).network.input_bn
    assert isinstance(norm, BatchNorm)
    assert norm.running_var is not None
    assert norm.running_var.item() < 0.9  # after two steps; by Keras' rule it would be 0.98 at the least
