"""Each transform against a slow, obvious reference in double precision, and what must hold of all of them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.data import transforms
from samplecnn.data.resampling import resample

RATE = 16_000
SAMPLES = 9_001  # of no FFT's size
Floats = NDArray[np.float64]


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


@pytest.fixture
def waveforms() -> Tensor:
    """Three of different colour and loudness; the last begins with silence."""
    white = 0.2 * torch.randn(3, SAMPLES, generator=torch.Generator().manual_seed(0))
    white[1] = white[1].cumsum(0) / 30
    white[2, :3_000] = 0
    return white


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(3, SAMPLES, generator=torch.Generator().manual_seed(1))


def decibels(ratio: Tensor) -> Tensor:
    return 10 * ratio.log10()


def energy(waveforms: Tensor) -> Tensor:
    return waveforms.double().square().sum(1)


def test_gain(waveforms: Tensor) -> None:
    changed = transforms.gain(waveforms, values(6, -20, 0))
    np.testing.assert_allclose(changed[0], waveforms[0].double() * 10 ** (6 / 20), rtol=1e-6)
    torch.testing.assert_close(decibels(energy(changed) / energy(waveforms)).float(), values(6, -20, 0))
    assert torch.equal(changed[2], waveforms[2])


def test_noise_has_the_energy_that_was_asked_for(waveforms: Tensor, noise: Tensor) -> None:
    changed = transforms.add_noise(waveforms, noise, values(30, 0, 12))
    added = changed - waveforms
    found = decibels(energy(waveforms) / energy(added)).float()
    torch.testing.assert_close(found, values(30, 0, 12), atol=1e-3, rtol=0)
    for one, white in zip(added, noise, strict=True):
        assert np.corrcoef(one, white)[0, 1] == pytest.approx(1, abs=1e-6)
    silent = torch.zeros(3, SAMPLES)
    assert torch.equal(transforms.add_noise(silent, noise, values(0, 0, 0)), silent)


@pytest.mark.parametrize("kind", ["lowpass", "highpass"])
def test_filters_are_butterworth_s(waveforms: Tensor, kind: str) -> None:
    hertz = (20.0, 700.0, 7_900.0)
    change = transforms.low_pass if kind == "lowpass" else transforms.high_pass
    changed = change(waveforms, values(*hertz), RATE)
    for one, before, cut in zip(changed, waveforms, hertz, strict=True):
        expected = scipy.signal.lfilter(*scipy.signal.butter(2, cut, kind, fs=RATE), before.double().numpy())
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_an_echo(waveforms: Tensor) -> None:
    later = (1, 4_000, SAMPLES)
    changed = transforms.delay(waveforms, torch.tensor(later), values(0, -12, 0))
    for row, (samples, factor) in enumerate(zip(later, (1, 10 ** (-12 / 20), 1), strict=True)):
        expected = waveforms[row].double().numpy()
        for place in range(samples, SAMPLES):
            expected[place] += factor * waveforms[row, place - samples].item()
        np.testing.assert_allclose(changed[row], expected, atol=1e-6)
    assert torch.equal(changed[2], waveforms[2])  # later than the end


def test_a_room(waveforms: Tensor) -> None:
    noise = torch.randn(3, 2_400, generator=torch.Generator().manual_seed(2))
    seconds, wet = (0.05, 0.1, 0.15), (0.3, 1.0, 0.0)
    changed = transforms.reverberate(waveforms, noise, values(*seconds), values(*wet), RATE)
    for row in range(3):
        times = np.arange(2_400) / RATE
        response = noise[row].double().numpy() * 10 ** (-60 / 20 * times / seconds[row])
        response /= np.sqrt((response**2).sum())
        before = waveforms[row].double().numpy()
        tail = np.convolve(before, response)[:SAMPLES]
        expected = math.sqrt(1 - wet[row]) * before + math.sqrt(wet[row]) * tail
        np.testing.assert_allclose(changed[row], expected, atol=1e-5)
    assert torch.equal(changed[2], waveforms[2])
    assert abs(decibels(energy(changed[:1]) / energy(waveforms[:1])).item()) < 1.5  # of white noise it stays


def vocoded(waveform: Floats, speed: float) -> Floats:
    """A phase vocoder, frame by frame and bin by bin."""
    size, hop = 2048, 512
    window = scipy.signal.get_window("hann", size)
    padded = np.pad(waveform, size // 2)
    frames = [np.fft.rfft(window * padded[i : i + size]) for i in range(0, len(padded) - size + 1, hop)]
    frames += [np.zeros_like(frames[0])] * 2
    advance = 2 * np.pi * hop * np.arange(size // 2 + 1) / size
    phase = np.angle(frames[0])
    places = np.arange(0, len(frames) - 2, speed)
    out, weight = (np.zeros(size + hop * (len(places) - 1)) for _ in range(2))
    for number, place in enumerate(places):
        before, after, share = frames[int(place)], frames[int(place) + 1], place % 1
        magnitude = (1 - share) * np.abs(before) + share * np.abs(after)
        whole = slice(hop * number, hop * number + size)
        out[whole] += window * np.fft.irfft(magnitude * np.exp(1j * phase))
        weight[whole] += window**2
        turned = np.angle(after) - np.angle(before) - advance
        phase = phase + advance + turned - 2 * np.pi * np.round(turned / (2 * np.pi))
    inside = slice(size // 2, size // 2 + math.ceil(len(waveform) / speed))
    return out[inside] / weight[inside]


def correlation(one: Tensor | Floats, other: Tensor | Floats) -> float:
    return float(np.corrcoef(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))[0, 1])


def tones(*hertz: float, seconds: float = 1.0) -> Tensor:
    times = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return torch.stack([0.3 * (2 * math.pi * f * times).sin() for f in hertz]).sum(0, keepdim=True).float()


@pytest.mark.parametrize("speed", [0.8, 1.25, 1.0])
def test_stretched_as_by_a_phase_vocoder(waveforms: Tensor, speed: float) -> None:
    sound = torch.cat([waveforms[:1, : SAMPLES - 1] + tones(440, 1234.5)[:, : SAMPLES - 1]])
    changed = transforms.stretch(sound, speed)
    expected = vocoded(sound[0].double().numpy(), speed)
    assert changed.shape == (1, len(expected)) == (1, math.ceil((SAMPLES - 1) / speed))
    assert correlation(changed[0], expected) > 0.9999  # phases at the edge of a turn may fall to either side
    if speed == 1:
        torch.testing.assert_close(changed, sound, atol=1e-5, rtol=0)


@pytest.mark.parametrize("semitones", [2.0, -3.0, 12.0, 0.0])
def test_pitch_is_shifted_and_nothing_else(semitones: float) -> None:
    sound = tones(500, 1_300)
    changed = transforms.shift_pitch(sound.repeat(2, 1), [semitones, 0.0])
    assert changed.shape == (2, RATE)
    torch.testing.assert_close(changed[1:], sound, atol=1e-5, rtol=0)
    spectrum = torch.fft.rfft(changed[0] * torch.hann_window(RATE)).abs()  # a bin per Hz
    for hertz in (500, 1_300):
        expected = hertz * 2 ** (semitones / 12)
        around = range(round(expected) - 100, round(expected) + 100)
        peak = max(around, key=lambda place: float(spectrum[place]))
        assert abs(1200 * math.log2(peak / expected)) < 5  # cents
    assert abs(decibels(energy(changed[:1, 2_000:-2_000]) / energy(sound[:, 2_000:-2_000])).item()) < 1.5


def test_pitch_is_shifted_by_stretching_and_resampling(waveforms: Tensor) -> None:
    changed = transforms.shift_pitch(waveforms[:1], [5.0])[0]
    longer = vocoded(waveforms[0].double().numpy(), 3 / 4)  # 4/3 is five semitones, but for two cents
    assert correlation(changed, resample(longer.astype(np.float32), 4_000, 3_000)[:SAMPLES]) > 0.999


def test_minutes_are_stretched_as_well_as_seconds() -> None:
    """The vocoder sums up phases, of which float32 keeps few digits: a tone would become noise."""
    changed = transforms.stretch(tones(7_000, seconds=40), 1.25)[0, -RATE - 3_000 : -3_000]
    spectrum = torch.fft.rfft(changed * torch.hann_window(RATE)).abs().square()
    assert 1 - spectrum[6_990:7_010].sum() / spectrum.sum() < 1e-5


def test_mixed(waveforms: Tensor) -> None:
    partners, shares = torch.tensor([1, 2, 0]), values(0.25, 0.5, 1.0)
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 1, 0]])
    mixed = transforms.mix(waveforms, partners, shares)
    expected = shares[:, None] * waveforms + (1 - shares[:, None]) * waveforms[partners]
    torch.testing.assert_close(mixed, expected)
    assert transforms.mix(labels, partners, shares).tolist() == [[0.25, 0, 1], [0, 0.5, 0.5], [0, 1, 0]]
    assert torch.equal(mixed[2], waveforms[2])


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gain": lambda waveforms, noise: transforms.gain(waveforms, values(3, -3, 1)),
    "noise": lambda waveforms, noise: transforms.add_noise(waveforms, noise, values(3, 9, 20)),
    "low_pass": lambda waveforms, noise: transforms.low_pass(waveforms, values(300, 900, 2_000), RATE),
    "high_pass": lambda waveforms, noise: transforms.high_pass(waveforms, values(300, 900, 2_000), RATE),
    "delay": lambda waveforms, noise: transforms.delay(
        waveforms, torch.tensor([300, 90, 2_000]), values(-3, -9, -20)
    ),
    "reverb": lambda waveforms, noise: transforms.reverberate(
        waveforms, noise, values(0.1, 0.2, 0.3), values(0.1, 0.2, 0.3), RATE
    ),
    "pitch": lambda waveforms, noise: transforms.shift_pitch(waveforms, [1.0, -2.5, 0.3]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_length_type_input_and_silence_stay(name: str, waveforms: Tensor, noise: Tensor) -> None:
    before = waveforms.clone()
    changed = CHANGES[name](waveforms, noise)
    assert (changed.shape, changed.dtype) == (waveforms.shape, torch.float32)
    assert torch.equal(waveforms, before)
    assert not torch.equal(changed, before)
    assert changed.isfinite().all()
    silence = torch.zeros(3, SAMPLES)
    torch.testing.assert_close(CHANGES[name](silence, noise), silence)
