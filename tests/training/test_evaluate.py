"""Models without a run of their own, tested on a prepared store, and a run on another machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from inference.models import checkpoint
from samplecnn.cli import main
from samplecnn.data import audio
from samplecnn.data.store import Store
from samplecnn.errors import UserError
from samplecnn.inference.tagger import load
from samplecnn.runs.errors import RunError
from samplecnn.runs.metrics import score
from samplecnn.training.evaluate import open_subject
from training.stores import Clip, prepare_clips, write_run, write_store

TAGS = ["slow", "loud", "odd"]  # in another order than the store has them


def make_store(folder: Path) -> Path:
    """Clips of 1 to 4 segments; in the test part six."""
    clips = [
        Clip(name, [1, n % 4 == 3, n % 2], (1 + n % 4) * 60_000, taps=1 + n, seed=n)
        for n, name in enumerate("0cdddddd")
    ]
    return prepare_clips(folder, ["loud", "odd", "slow"], clips)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("tiny"))


def test_means_of_clips_and_tags_by_name(store: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model.ckpt", tags=TAGS)
    scores = open_subject(model, store=store).scores()
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
    assert open_subject(model, store=store).scores().per_tag["odd"].roc_auc is not None


def test_other_tags_are_not_compared(store: Path, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model.ckpt", tags=["loud", "slow", "sitar"])
    with pytest.raises(RunError, match=r"knows the tag 'sitar', which is none of the 3 most frequent of"):
        open_subject(model, store=store).scores()
    with pytest.raises(UserError, match="nowhere"):
        open_subject(model, store=tmp_path / "nowhere").scores()


def test_a_run_of_a_gpu_is_tested_where_there_is_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", write_store(tmp_path / "tiny"))
    config = OmegaConf.load(run / "config.yaml")
    config.trainer.accelerator = "cuda"
    OmegaConf.save(config, run / "config.yaml")
    subject = open_subject(run)
    assert subject.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert subject.scores().roc_auc is not None
