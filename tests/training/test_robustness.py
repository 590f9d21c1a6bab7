"""A test part whose clips are disturbed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.models import checkpoint
from samplecnn.data.audio import segments
from samplecnn.errors import UserError
from samplecnn.inference.tagger import load
from samplecnn.runs.metrics import score
from samplecnn.runs.robustness import DISTURBANCES
from samplecnn.training.evaluate import open_subject
from samplecnn.training.robustness import (
    DISTURB,
    check_strength,
    clip_probabilities,
    disturbed,
    encode_mp3,
)
from training.stores import RATE
from training.test_evaluate import TAGS, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model") / "model.ckpt", tags=TAGS)


@pytest.fixture
def clip() -> torch.Tensor:
    """Three seconds of coloured noise."""
    white = np.random.default_rng(0).normal(scale=0.2, size=3 * RATE)
    return torch.from_numpy(np.convolve(white, np.ones(4) / 4, mode="same").astype(np.float32))


def test_undisturbed_and_strength_0_are_the_test_itself(store: Path, model: Path) -> None:
    subject = open_subject(model, store=store)
    expected = open_subject(model, store=store).scores()
    undisturbed = clip_probabilities(subject)
    scores = score(subject.tags, subject.labels, undisturbed)
    assert scores.per_tag == expected.per_tag
    for name in ("level", "pitch"):
        np.testing.assert_allclose(clip_probabilities(subject, name, 0.0), undisturbed, atol=1e-4)
    assert abs(clip_probabilities(subject, "level", -30) - undisturbed).max() > 1e-3


def test_whole_clips_are_disturbed_and_then_cut(store: Path, model: Path) -> None:
    """Stretched ones have other segments; the probabilities are those of a tagger that hears them."""
    subject, tagger = open_subject(model, store=store), load(model, precision="32")
    found = clip_probabilities(subject, "stretch", 0.5)
    part, opened = subject.data.parts["test"], subject.data.store
    for index, clip in enumerate(part.clips.tolist()):
        samples = torch.from_numpy(opened.clip(clip) / np.float32(32768))
        heard = segments(disturbed(samples, "stretch", 0.5, RATE).numpy())
        assert len(heard) >= 2 * (len(samples) // 59_049)
        np.testing.assert_allclose(found[index], tagger.predict_segments(heard).mean(axis=0), atol=1e-4)


def test_as_many_segments_of_a_clip_as_the_run_s_test_has(store: Path, model: Path) -> None:
    subject = open_subject(model, store=store)
    subject.data.test_segments = 1
    found = clip_probabilities(subject)
    tagger, opened = load(model, precision="32"), subject.data.store
    for index, clip in enumerate(subject.data.parts["test"].clips.tolist()):
        cut = segments(opened.clip(clip) / np.float32(32768))
        middle = cut[len(cut) // 2]
        np.testing.assert_allclose(found[index], tagger.predict_segments(middle[None])[0], atol=1e-5)


def test_another_rate_is_resampled(store: Path, tmp_path: Path) -> None:
    other = checkpoint(tmp_path / "model.ckpt", tags=TAGS, sample_rate=16_000)
    subject = open_subject(other, store=store)
    scores = score(subject.tags, subject.labels, clip_probabilities(subject))
    assert scores.per_tag == open_subject(other, store=store).scores().per_tag


@pytest.mark.parametrize("name", DISTURBANCES)
def test_every_disturbance_keeps_length_and_scale(clip: torch.Tensor, name: str) -> None:
    assert DISTURB.keys() == DISTURBANCES.keys()
    for strength in DISTURBANCES[name].strengths:
        check_strength(name, strength, RATE)
        found = disturbed(clip, name, strength, RATE, seed=3)
        assert len(found) == (len(clip) if name != "stretch" else math.ceil(len(clip) / strength))
        assert found.abs().max() <= 1
        assert not torch.equal(found[:RATE], clip[:RATE])
        assert torch.equal(found, disturbed(clip, name, strength, RATE, seed=3))
    other = disturbed(clip, name, strength, RATE, seed=4)
    assert torch.equal(other, found) == (name != "noise")


def test_noise_is_as_loud_as_said_and_the_same_at_all_strengths(clip: torch.Tensor) -> None:
    added = {snr: disturbed(clip, "noise", snr, RATE, seed=1) - clip for snr in (30.0, 10.0)}
    for snr, noise in added.items():
        assert 10 * math.log10(clip.square().sum() / noise.square().sum()) == pytest.approx(snr, abs=0.1)
    assert np.corrcoef(added[30.0].numpy(), added[10.0].numpy())[0, 1] > 0.999


def test_what_is_too_loud_is_clipped(clip: torch.Tensor) -> None:
    louder = disturbed(clip, "level", 30, RATE)
    torch.testing.assert_close(louder, (clip * 10**1.5).clamp(-1, 1))


@pytest.mark.parametrize("rate", [11_025, 16_000, RATE, 44_100])
def test_mp3_has_its_bit_rate_and_stays_in_time(clip: torch.Tensor, rate: int) -> None:
    errors = []
    for kilobits in (64, 48, 40) if rate == 44_100 else (64, 32, 16, 8):
        seconds = len(clip) / rate
        assert len(encode_mp3(clip.numpy(), kilobits, rate)) * 8 / seconds / 1000 == pytest.approx(
            kilobits, rel=0.05
        )
        found = disturbed(clip, "mp3", kilobits, rate)
        late = (
            np.correlate(found[10_000:20_000].numpy(), clip[11_000:19_000].numpy(), "valid").argmax() - 1_000
        )
        assert abs(late) <= 1
        errors.append(float((found - clip).square().sum() / clip.square().sum()))
    assert errors == sorted(errors)
    assert errors[0] < 0.3


@pytest.mark.parametrize(
    ("name", "strength", "rate", "words"),
    [
        ("mp3", 200, RATE, "mp3=200: at 22,050 Hz, the store's rate, allowed are 8 to 160 kbit/s"),
        ("mp3", 16, 44_100, "mp3=16: at 44,100 Hz, the store's rate, allowed are 32 to 320 kbit/s"),
        ("mp3", 16, 10_000, "mp3: libsndfile does not write it at 10,000 Hz"),
        (
            "lowpass",
            11_025,
            RATE,
            "lowpass=11025: the store holds nothing from 11025 Hz, half of its rate, on",
        ),
    ],
)
def test_what_is_impossible_at_a_rate(name: str, strength: float, rate: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_strength(name, strength, rate)
