"""Each network of the field from the command line to its scores, on a small set of real files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_dir

from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.tagger import load
from samplecnn.runs.config import read_config
from samplecnn.runs.folder import load_model, read_description
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.results import Results, read_results
from samplecnn.runs.run import read_run
from samplecnn.training import config as configuration
from samplecnn.training.evaluate import evaluate, open_data
from samplecnn.training.job import train

CONF = Path(__file__).parents[2] / "conf"
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
        return train(self.compose(*overrides), run, name=None)


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two clips in each part, a little longer than 29 s; a store at 22,050 Hz."""
    raw, root = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("stores")
    rows = ["clip_id\tloud\tslow\tmp3_path"]
    for number, folder in enumerate("00ccdd"):
        path = f"{folder}/{number}.wav"
        rows.append(f'"{number}"\t"1"\t"{number % 2}"\t"{path}"')
        file = raw / "mp3" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(scale=0.1, size=round(29.5 * RATE))
        soundfile.write(file, np.convolve(noise, np.ones(8) / 8, mode="same"), RATE)
    (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    prepare(mtat.catalog(raw, "tiny"), root, workers=1, progress=False)
    return World(raw, root)


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

    again = evaluate(run)
    assert again.per_tag == results.test.per_tag
    predictions = read_predictions(run)
    assert predictions is not None
    data = open_data(run, read_config(run), description)
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
