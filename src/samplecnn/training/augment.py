"""Training waveforms that are changed anew in each epoch: `augment=waveform`, docs/augmentation.md.

What is drawn for a segment is a function of seed, epoch and the segment's index alone, whatever batch it is
in and whichever process has it; mixup's partners are the other segments of the batch. No global generator is
used. Drawing is done on the host, and changing on the device.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.data import transforms
from samplecnn.data.batches import Batch
from samplecnn.training.config import ConfigError

STREAM = 2  # of random numbers, beside those of the order and of random chunks


# What `conf/augment/waveform.yaml` says: probabilities, and ranges of parameters.
Settings = Mapping[str, Any]


class Drawn(NamedTuple):
    """What is drawn of one change, for a batch."""

    rows: NDArray[np.int64]  # which of the batch are changed
    values: list[NDArray[np.float64]]  # of each parameter, (rows,)
    seeds: NDArray[np.int64]  # (rows,), of noise


class Mixed(NamedTuple):
    """What is drawn of mixup, for a batch."""

    partners: NDArray[np.int64]  # (batch,), rows
    shares: NDArray[np.float64]  # (batch,), of a segment in its own mixture


def _delay(waveforms: Tensor, drawn: Drawn, settings: Settings, rate: int) -> Tensor:
    samples = np.rint(drawn.values[0] * rate / 1000).astype(np.int64)
    return transforms.delay(waveforms, _beside(waveforms, samples), _beside(waveforms, drawn.values[1]))


def _reverb(waveforms: Tensor, drawn: Drawn, settings: Settings, rate: int) -> Tensor:
    seconds, wet = (_beside(waveforms, values) for values in drawn.values)
    noise = _noise(drawn.seeds, math.ceil(settings["reverb_seconds"][1] * rate), waveforms.device)
    return transforms.reverberate(waveforms, noise, seconds, wet, rate)


def _white_noise(waveforms: Tensor, drawn: Drawn, settings: Settings, rate: int) -> Tensor:
    noise = _noise(drawn.seeds, waveforms.shape[1], waveforms.device)
    return transforms.add_noise(waveforms, noise, _beside(waveforms, drawn.values[0]))


# In the order in which they are applied: the ranges of each, and what it does with what was drawn.
CHANGES: dict[str, tuple[Sequence[str], Callable[[Tensor, Drawn, Settings, int], Tensor]]] = {
    "pitch": (["pitch_semitones"], lambda x, drawn, *_: transforms.shift_pitch(x, drawn.values[0].tolist())),
    "delay": (["delay_ms", "delay_db"], _delay),
    "reverb": (["reverb_seconds", "reverb_wet"], _reverb),
    "high_pass": (
        ["high_pass_hz"],
        lambda x, drawn, _, rate: transforms.high_pass(x, _beside(x, drawn.values[0]), rate),
    ),
    "low_pass": (
        ["low_pass_hz"],
        lambda x, drawn, _, rate: transforms.low_pass(x, _beside(x, drawn.values[0]), rate),
    ),
    "noise": (["noise_snr"], _white_noise),
    "gain": (["gain_db"], lambda x, drawn, *_: transforms.gain(x, _beside(x, drawn.values[0]))),
    "polarity": ([], lambda x, *_: -x),
}
KEYS = (*CHANGES, *(key for keys, _ in CHANGES.values() for key in keys), "mixup", "mixup_alpha")


class Augmentation:
    """Changes the batches of a training.

    ``settings`` are checked values of the configuration's ``augment``, ``rate`` is in Hz. Raises ConfigError
    where one is missing, and for a filter above half of the rate, where there is nothing to filter.
    """

    def __init__(self, settings: Settings, seed: int, rate: int) -> None:
        if missing := [key for key in KEYS if key not in settings]:
            raise ConfigError(f"the configuration has no augment.{missing[0]}")
        for key in ("high_pass_hz", "low_pass_hz"):
            if (highest := settings[key][1]) >= rate / 2:
                raise ConfigError(
                    f"augment.{key} goes up to {highest:g} Hz: the network hears {rate:,} samples a second, "
                    f"which hold less than {rate / 2:g} Hz"
                )
        self.settings, self.seed, self.rate = settings, seed, rate

    def draw(self, epoch: int, segments: Sequence[int]) -> tuple[dict[str, Drawn], Mixed]:
        """Draw for the segments of a batch, by index: a function of each segment but for mixup's partners.

        Each change has random numbers of its own: another probability of one does not move the others.
        """
        generators = [np.random.default_rng((self.seed, epoch, segment, STREAM)) for segment in segments]
        numbers = np.stack([generator.random((1 + len(CHANGES), 4)) for generator in generators])
        alpha = self.settings["mixup_alpha"]
        shares = np.array([generator.beta(alpha, alpha) for generator in generators])
        drawn = {}
        for index, (name, (keys, _)) in enumerate(CHANGES.items(), start=1):
            whether, seeds, *places = numbers[:, index].T
            rows = np.flatnonzero(whether < self.settings[name])
            values = [
                within(self.settings[key], place[rows], even_ratios=key.endswith("_hz"))
                for key, place in zip(keys, places, strict=False)
            ]
            drawn[name] = Drawn(rows, values, (seeds[rows] * 2**53).astype(np.int64))
        # Around a circle in a random order, so that none is its own partner.
        circle = np.argsort(numbers[:, 0, 0], kind="stable")
        partners = np.empty_like(circle)
        partners[circle] = np.roll(circle, 1)
        return drawn, Mixed(partners, np.where(numbers[:, 0, 1] < self.settings["mixup"], shares, 1.0))

    @torch.no_grad()
    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """Return the batch with its waveforms, float32 `(batch, samples)`, changed, and labels mixed."""
        waveforms, labels = batch.waveforms, batch.labels
        drawn, mixed = self.draw(epoch, batch.segments.tolist())
        with torch.autocast(waveforms.device.type, enabled=False):
            for name, (_, change) in CHANGES.items():
                if len(drawn[name].rows):
                    rows = _beside(waveforms, drawn[name].rows)
                    changed = change(waveforms[rows], drawn[name], self.settings, self.rate)
                    waveforms = waveforms.index_copy(0, rows, changed)
            if (mixed.shares < 1).any():
                partners, shares = _beside(waveforms, mixed.partners), _beside(waveforms, mixed.shares)
                waveforms, labels = (transforms.mix(all_, partners, shares) for all_ in (waveforms, labels))
        return batch._replace(waveforms=waveforms, labels=labels)


def within(
    ends: Sequence[float], places: NDArray[np.float64], *, even_ratios: bool = False
) -> NDArray[np.float64]:
    """Return values between two ends, from places in [0, 1); `even_ratios` spreads them over octaves."""
    low, high = ends
    return low * (high / low) ** places if even_ratios else low + (high - low) * places


def _beside(waveforms: Tensor, values: NDArray[Any]) -> Tensor:
    """Return values on the device of the waveforms, floats as float32, without waiting for it."""
    dtype = torch.float32 if values.dtype.kind == "f" else torch.int64
    return torch.from_numpy(values).to(waveforms.device, dtype, non_blocking=True)


def _noise(seeds: NDArray[np.int64], samples: int, device: torch.device) -> Tensor:
    """Return white noise `(seeds, samples)` of unit variance: of a seed and a kind of device the same."""
    generator = torch.Generator(device)
    rows = [
        torch.randn(samples, generator=generator.manual_seed(seed), device=device) for seed in seeds.tolist()
    ]
    return torch.stack(rows)
