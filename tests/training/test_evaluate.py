"""Models without a run of their own, tested on a prepared store."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from inference.models import checkpoint
from samplecnn.cli import main
from samplecnn.data import audio
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Store
from samplecnn.errors import UserError
from samplecnn.inference.tagger import load
from samplecnn.runs.errors import RunError
from samplecnn.runs.metrics import score
from samplecnn.training.evaluate import evaluate_on

RATE = 22_050
TAGS = ["slow", "loud", "odd"]  # in another order than the store has them


def make_store(raw: Path, root: Path) -> Path:
    """Clips of 1 to 4 segments; in the test part six."""
    rows = ["clip_id\tloud\todd\tslow\tmp3_path"]
    for number, folder in enumerate("0cdddddd"):
        path = f"{folder}/{number}.wav"
        rows.append(f'"{number}"\t"1"\t"{int(number % 4 == 3)}"\t"{number % 2}"\t"{path}"')
        (raw / "mp3" / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(scale=0.1, size=(1 + number % 4) * 60_000)
        soundfile.write(raw / "mp3" / path, np.convolve(noise, np.ones(1 + number) / 8, mode="same"), RATE)
    (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    return prepare(mtat.catalog(raw, "tiny"), root, workers=1, progress=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("stores"))


def test_means_of_clips_and_tags_by_name(store: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model.ckpt", tags=TAGS)
    scores = evaluate_on(model, store)
    opened = Store.open(store)
    part = opened.select("clean", 3).parts["test"]
    tagger = load(model, precision="32")
    means = [
        tagger.predict_segments(audio.segments(opened.clip(clip) / np.float32(32768))).mean(axis=0)
        for clip in part.clips
    ]
    assert [len(opened.clip(clip)) // 59_049 for clip in part.clips] == [3, 4, 1, 2, 3, 4]
    numbers = [int(clip_id) for clip_id in part.clip_ids]
    labels = np.array([[number % 2, 1, number % 4 == 3] for number in numbers])
    expected = score(tuple(TAGS), labels, np.stack(means))
    assert scores.per_tag == expected.per_tag
    assert scores.per_tag["slow"].positives == 3
    assert scores.per_tag["loud"].roc_auc is None


def test_by_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path / "model.ckpt", tags=TAGS, split="unknown")
    assert main(["evaluate", str(model), "--store", str(store)]) == 1
    assert "no split 'unknown' in store" in capsys.readouterr().err
    assert main(["evaluate", str(model), "--split", "clean"]) == 1
    assert "say --store STORE --split NAME" in capsys.readouterr().err
    assert main(["evaluate", str(model), "--store", str(store), "--split", "clean", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["per_tag"].keys() == set(TAGS)


def test_another_rate_is_resampled(store: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model.ckpt", tags=TAGS, sample_rate=16_000)
    assert evaluate_on(model, store).per_tag["odd"].roc_auc is not None


def test_other_tags_are_not_compared(store: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model.ckpt", tags=["loud", "slow", "sitar"])
    with pytest.raises(RunError, match=r"knows the tag 'sitar', which is none of the 3 most frequent of"):
        evaluate_on(model, store)
    with pytest.raises(UserError, match="nowhere"):
        evaluate_on(model, tmp_path / "nowhere")
