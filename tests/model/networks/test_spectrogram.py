"""Spectrograms against their definition, written out with numpy in float64."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from samplecnn.model.networks.harmonic import HarmonicSpectrogram
from samplecnn.model.networks.spectrogram import LogMel, MelSpectrogram, PonsMel, Spectrogram, decibels

Array = NDArray[np.float64]
BIN = 16_000 / 512  # Hz from frequency to frequency


def sound(samples: int) -> Array:
    """Two tones, one of them quiet, and a little noise."""
    time = np.arange(samples) / 16_000
    hiss = np.random.default_rng(0).normal(size=samples)
    return 0.4 * np.sin(2 * math.pi * 440 * time) + 1e-3 * np.sin(2 * math.pi * 5_000 * time) + 1e-4 * hiss


def power(x: Array, mode: str) -> Array:
    """``(257, frames)``: squared magnitudes of the Fourier transform of windows around every 256th sample."""
    padded = np.pad(x, 256, mode=mode)  # type: ignore[call-overload]
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(512) / 512)
    frames = [np.fft.rfft(padded[start : start + 512] * window) for start in range(0, len(x) + 1, 256)]
    return np.abs(np.array(frames).T) ** 2


def htk(mel: float) -> float:
    """Frequency in Hz of a number of mels on HTK's scale."""
    return 700 * (10 ** (mel / 2595) - 1)


def slaney(mel: float) -> float:
    """Frequency in Hz on Slaney's scale: linear up to 1 kHz (15 mels), then 27 mels for every factor 6.4."""
    return 200 / 3 * mel if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def triangle(frequency: float, low: float, centre: float, high: float) -> float:
    return max(0.0, min((frequency - low) / (centre - low), (high - frequency) / (high - centre)))


def filters(bands: int, *, is_slaney: bool) -> Array:
    if is_slaney:
        corners = [slaney(mel) for mel in np.linspace(0, 15 + 27 * math.log(8) / math.log(6.4), bands + 2)]
    else:
        corners = [htk(mel) for mel in np.linspace(0, 2595 * math.log10(1 + 8000 / 700), bands + 2)]
    return np.array(
        [
            [
                triangle(k * BIN, low, centre, high) * (2 / (high - low) if is_slaney else 1)
                for k in range(257)
            ]
            for low, centre, high in zip(corners, corners[1:], corners[2:], strict=False)
        ]
    )


def test_power() -> None:
    x = sound(2_000)
    for ours, theirs in (("reflect", "reflect"), ("constant", "constant")):
        got = Spectrogram(pad_mode=ours).double()(torch.tensor(x)[None])[0]
        assert got.shape == (257, 2_000 // 256 + 1)
        np.testing.assert_allclose(got, power(x, theirs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("bands", "is_slaney"), [(96, False), (128, False), (96, True)])
def test_mel_bands(bands: int, is_slaney: bool) -> None:
    got = MelSpectrogram(bands, slaney=is_slaney).filters
    np.testing.assert_allclose(got, filters(bands, is_slaney=is_slaney), rtol=1e-4, atol=2e-5)


def test_the_input_of_won() -> None:
    x = sound(3_000)
    got = LogMel(96).double()(torch.tensor(x)[None])
    mel = filters(96, is_slaney=False) @ power(x, "reflect")
    assert got.shape == (1, 1, 96, 12)
    np.testing.assert_allclose(got[0, 0], 10 * np.log10(np.maximum(mel, 1e-10)), atol=1e-2)


def test_the_input_of_pons() -> None:
    x = sound(48_000)
    got = PonsMel().double()(torch.tensor(x)[None])
    mel = filters(96, is_slaney=True) @ power(x, "constant")
    assert mel.shape == (96, 188)
    assert got.shape == (1, 1, 96, 187)
    np.testing.assert_allclose(got[0, 0], np.log10(10_000 * mel[:, :187] + 1), atol=1e-4)


@pytest.mark.parametrize("q", [1.0, 0.7])
def test_harmonics(q: float) -> None:
    x = sound(3_000)
    layer = HarmonicSpectrogram().double()
    layer.q.data.fill_(q)
    notes = [440 * 2 ** ((24 + step / 2 - 69) / 12) for step in range(128)]
    bank = np.zeros((6, 128, 257))
    for h in range(6):
        for band, note in enumerate(notes):
            centre = (h + 1) * note
            half = (0.1079 * centre + 24.7) / q / 2
            bank[h, band] = [triangle(k * BIN, centre - half, centre, centre + half) for k in range(257)]
    got = layer(torch.tensor(x)[None]).detach()
    assert got.shape == (1, 6, 128, 12)
    expected = 10 * np.log10(np.maximum(bank @ power(x, "reflect"), 1e-10))
    np.testing.assert_allclose(got[0], expected, atol=1e-2)


def test_q_learns() -> None:
    layer = HarmonicSpectrogram()
    layer(torch.tensor(sound(3_000), dtype=torch.float32)[None]).sum().backward()
    assert layer.q.grad is not None
    assert layer.q.grad.item() < 0  # a higher Q makes every band narrower, and so quieter


def test_silence_is_the_floor() -> None:
    assert decibels(torch.zeros(1)).item() == pytest.approx(-100)
    assert not PonsMel()(torch.zeros(1, 48_000)).any()


@pytest.mark.parametrize("make", [lambda: LogMel(128), PonsMel, HarmonicSpectrogram])
def test_autocast_leaves_spectrograms_alone(make: type[torch.nn.Module]) -> None:
    layer = make()
    x = torch.tensor(sound(48_000), dtype=torch.float32)[None]
    with torch.no_grad():
        plain = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(x), plain)
            assert layer(x.bfloat16()).dtype == torch.float32
