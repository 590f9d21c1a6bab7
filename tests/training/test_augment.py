"""What is drawn for the segments of a batch, and what comes of it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from samplecnn.data import transforms
from samplecnn.data.batches import Batch
from samplecnn.errors import UserError
from samplecnn.training.augment import CHANGES, KEYS, Augmentation
from samplecnn.training.config import ConfigError

WAVEFORM = Path(__file__).parents[2] / "conf" / "augment" / "waveform.yaml"
CHOSEN: dict[str, Any] = yaml.safe_load(WAVEFORM.read_text())
ALL = (*CHANGES, "mixup")
OFF: dict[str, Any] = dict.fromkeys(ALL, 0.0)
RATE = 22_050
SAMPLES = 8_000


def with_all_on(probability: float = 1.0) -> dict[str, Any]:
    return CHOSEN | dict.fromkeys(ALL, probability)


def batch_of(*segments: int) -> Batch:
    """Segments of noise, each with labels of its own."""
    rows = [torch.randn(SAMPLES, generator=torch.Generator().manual_seed(s)) * 0.1 for s in segments]
    labels = torch.tensor([[float(bit) for bit in f"{s % 32:05b}"] for s in segments])
    index = torch.tensor(segments)
    return Batch(torch.stack(rows), labels, index, index)


def test_the_file_is_complete() -> None:
    assert CHOSEN.keys() == {"name", *KEYS}


def test_probability_0_switches_a_change_off() -> None:
    batch = batch_of(*range(20))
    unchanged = Augmentation(CHOSEN | OFF, 0, RATE)(batch, 0)
    assert torch.equal(unchanged.waveforms, batch.waveforms)
    assert torch.equal(unchanged.labels, batch.labels)


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_alone_is_its_transform_with_what_was_drawn(name: str) -> None:
    settings = CHOSEN | OFF | {name: 0.5}
    augmentation, batch = Augmentation(settings, 3, RATE), batch_of(*range(12))
    before = batch.waveforms.clone()
    drawn, _ = augmentation.draw(2, range(12))
    rows, parameters, seeds = drawn[name]
    assert 0 < len(rows) < 12
    values = [torch.from_numpy(value).float() for value in parameters]
    noise = {}
    for samples in (SAMPLES, 33_075):  # of the segment, and of the longest reverb
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        noise[samples] = torch.stack([torch.randn(samples, generator=one) for one in generators])
    changed = before[rows]
    expected = {
        "pitch": lambda: transforms.shift_pitch(changed, parameters[0].tolist()),
        "delay": lambda: transforms.delay(changed, (values[0] * 22.05).round().long(), values[1]),
        "reverb": lambda: transforms.reverberate(changed, noise[33_075], values[0], values[1], RATE),
        "high_pass": lambda: transforms.high_pass(changed, values[0], RATE),
        "low_pass": lambda: transforms.low_pass(changed, values[0], RATE),
        "noise": lambda: transforms.add_noise(changed, noise[SAMPLES], values[0]),
        "gain": lambda: transforms.gain(changed, values[0]),
        "polarity": lambda: -changed,
    }[name]()
    after = augmentation(batch, 2)
    assert torch.equal(batch.waveforms, before)
    torch.testing.assert_close(after.waveforms[rows], expected, atol=1e-6, rtol=1e-5)
    others = np.setdiff1d(np.arange(12), rows)
    assert torch.equal(after.waveforms[others], before[others])
    assert torch.equal(after.labels, batch.labels)


def test_what_is_drawn_is_within_its_range_and_as_often_as_said() -> None:
    settings = with_all_on(0.3)
    drawn, mixed = Augmentation(settings, 1, RATE).draw(0, range(2_000))
    for name, (keys, _) in CHANGES.items():
        assert len(drawn[name].rows) / 2_000 == pytest.approx(0.3, abs=0.05)
        assert len(drawn[name].values) == len(keys)
        for key, values in zip(keys, drawn[name].values, strict=True):
            low, high = settings[key]
            assert low <= values.min() < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < values.max() <= high
            middle = (low * high) ** 0.5 if key.endswith("_hz") else (low + high) / 2
            assert (values < middle).mean() == pytest.approx(0.5, abs=0.07)
    assert (mixed.shares < 1).mean() == pytest.approx(0.3, abs=0.05)
    shares = mixed.shares[mixed.shares < 1]
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.15)  # of Beta(0.4, 0.4)


def test_a_segment_s_numbers_are_its_own() -> None:
    """A function of seed, epoch and segment: not of the batch, nor of the other changes."""
    augmentation = Augmentation(with_all_on(0.5), 5, RATE)
    segments = [4, 70_000, 2, 9]
    together, _ = augmentation.draw(3, segments)
    for row, segment in enumerate(segments):
        alone, _ = augmentation.draw(3, [segment])
        for name in CHANGES:
            (place,) = np.nonzero(together[name].rows == row)
            assert len(place) == len(alone[name].rows)
            for one, several in zip(alone[name].values, together[name].values, strict=True):
                assert one.tolist() == several[place].tolist()
            assert alone[name].seeds.tolist() == together[name].seeds[place].tolist()
    fewer = with_all_on(0.5) | {"pitch": 0.0, "noise": 1.0}
    others, _ = Augmentation(fewer, 5, RATE).draw(3, segments)
    for name in set(CHANGES) - {"pitch", "noise"}:
        assert others[name].seeds.tolist() == together[name].seeds.tolist()
    for changed in (
        Augmentation(with_all_on(0.5), 6, RATE).draw(3, segments),
        augmentation.draw(4, segments),
    ):
        assert changed[0]["gain"].seeds.tolist() != together["gain"].seeds.tolist()


def test_waveforms_do_not_depend_on_the_batch() -> None:
    """But for mixup; the order of sums in an FFT may be another for another number of rows."""
    augmentation = Augmentation(with_all_on(0.5) | {"mixup": 0.0}, 0, RATE)
    whole = augmentation(batch_of(*range(8)), 1).waveforms
    parts = [augmentation(batch_of(*part), 1).waveforms for part in ([0], [1, 2, 3], [4, 5], [6, 7])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)
    again = augmentation(batch_of(*range(8)), 1).waveforms
    assert torch.equal(again, whole)
    assert not torch.equal(augmentation(batch_of(*range(8)), 2).waveforms, whole)


def test_mixup_mixes_waveforms_and_labels_alike() -> None:
    augmentation = Augmentation(CHOSEN | OFF | {"mixup": 0.7}, 0, RATE)
    segments = [3, 14, 15, 92, 65, 35, 8, 9]
    batch = batch_of(*segments)
    _, mixed = augmentation.draw(0, segments)
    partners = torch.from_numpy(mixed.partners)
    assert sorted(partners.tolist()) == list(range(8))
    assert all(partner != row for row, partner in enumerate(partners))
    assert 0 < (mixed.shares == 1).sum() < 8
    after = augmentation(batch, 0)
    shares = torch.from_numpy(mixed.shares).float()[:, None]
    for name in ("waveforms", "labels"):
        before = getattr(batch, name)
        expected = shares * before + (1 - shares) * before[partners]
        torch.testing.assert_close(getattr(after, name), expected)
    assert after.labels.dtype == torch.float32
    assert 0 <= after.labels.min() <= after.labels.max() <= 1


def test_mixup_s_partners_follow_from_the_batch_s_content() -> None:
    augmentation = Augmentation(CHOSEN | OFF | {"mixup": 1.0}, 0, RATE)
    segments = [3, 14, 15, 92, 65]
    whole = augmentation(batch_of(*segments), 0)
    turned = augmentation(batch_of(*segments[::-1]), 0)
    assert torch.equal(turned.waveforms.flip(0), whole.waveforms)
    assert torch.equal(turned.labels.flip(0), whole.labels)
    other = augmentation(batch_of(*segments[:-1], 7), 0)
    assert not torch.equal(other.waveforms[:-1], whole.waveforms[:-1])


def test_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    Augmentation(with_all_on(), 0, RATE)(batch_of(*range(4)), 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (str(np.random.get_state()), random.getstate()) == before[1:]


def test_in_single_precision_also_within_mixed() -> None:
    augmentation, batch = Augmentation(with_all_on(), 0, RATE), batch_of(*range(3))
    expected = augmentation(batch, 0).waveforms
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmentation(batch, 0).waveforms, expected)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_filters_stay_below_half_of_the_rate(rate: int) -> None:
    settings = CHOSEN | {"low_pass_hz": [2_000, rate / 2]}
    with pytest.raises(
        ConfigError,
        match=rf"augment\.low_pass_hz goes up to {rate // 2} Hz.*{rate:,} samples.*less than {rate // 2} Hz",
    ):
        Augmentation(settings, 0, rate)


def test_a_file_that_lacks_a_key_is_an_error() -> None:
    lacking = {key: value for key, value in CHOSEN.items() if key != "gain_db"}
    with pytest.raises(UserError, match=r"has no augment\.gain_db"):
        Augmentation(lacking, 0, RATE)
