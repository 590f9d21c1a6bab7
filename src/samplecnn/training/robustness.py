"""A model's probabilities on a test part whose clips are disturbed, as `samplecnn evaluate --under` has them.

Whole clips are disturbed, at the store's rate, and then cut into segments. What is random is a function of
the clip's id alone, the same for all strengths and models, so that they can be compared. Samples beyond full
scale are clipped, as in a file.
"""

import io
from collections.abc import Callable
from zlib import crc32

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from samplecnn.data import transforms
from samplecnn.data.audio import segments
from samplecnn.data.batches import evenly_spaced
from samplecnn.errors import UserError
from samplecnn.runs.metrics import ClipAverage
from samplecnn.training.evaluate import Subject

# Bit rates in kbit/s that libsndfile's compression level spans, from sample rates in Hz on (MPEG 1, 2, 2.5).
MP3_RATES = {32_000: (32, 320), 16_000: (8, 160), 0: (8, 64)}
# Samples by which encoder and decoder are late. Frames of low bit rates have no room for LAME's note of that,
# by which decoders otherwise cut delay and padding off.
MP3_DELAY = 576 + 529


def _noise(clip: Tensor, snr: float, rate: int, seed: int) -> Tensor:
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed)).to(clip.device)
    return transforms.add_noise(clip, noise, clip.new_tensor([snr]))


def _mp3(clip: Tensor, kilobits: float, rate: int, seed: int) -> Tensor:
    decoded, _ = soundfile.read(
        io.BytesIO(encode_mp3(clip[0].cpu().numpy(), kilobits, rate)), dtype="float32"
    )
    samples = clip.shape[1]
    if len(decoded) > samples:
        decoded = decoded[MP3_DELAY:]
    padded = np.pad(decoded[:samples], (0, max(0, samples - len(decoded))))
    return torch.from_numpy(padded)[None].to(clip.device)


def encode_mp3(samples: NDArray[np.float32], kilobits: float, rate: int) -> bytes:
    """Return the MP3 file of mono `(samples,)` at `rate` Hz, of a constant bit rate in kbit/s.

    Raises UserError for a bit rate that MP3 does not have at that rate, and for a rate that it does not have.
    """
    low, high = next((span for least, span in MP3_RATES.items() if rate >= least), MP3_RATES[0])
    if not low <= kilobits <= high:
        raise UserError(
            f"mp3={kilobits:g}: at {rate:,} Hz, the store's rate, allowed are {low} to {high} kbit/s"
        )
    file, level = io.BytesIO(), (high - kilobits) / (high - low)
    settings = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
    try:  # libsndfile 1.2 refuses level 1; rounding down, it comes to the same bit rate here
        soundfile.write(file, samples, rate, compression_level=min(level, 0.9999), **settings)
    except soundfile.LibsndfileError as error:
        raise UserError(f"mp3: libsndfile does not write it at {rate:,} Hz, the store's rate") from error
    return file.getvalue()


# By the names of `DISTURBANCES`: clip (1, samples), strength, rate in Hz, seed.
DISTURB: dict[str, Callable[[Tensor, float, int, int], Tensor]] = {
    "noise": _noise,
    "pitch": lambda clip, semitones, rate, seed: transforms.shift_pitch(clip, [semitones]),
    "stretch": lambda clip, speed, rate, seed: transforms.stretch(clip, speed),
    "mp3": _mp3,
    "level": lambda clip, decibels, rate, seed: transforms.gain(clip, clip.new_tensor([decibels])),
    "lowpass": lambda clip, hertz, rate, seed: transforms.low_pass(clip, clip.new_tensor([hertz]), rate),
}


def check_strength(name: str, strength: float, rate: int) -> None:
    """Raise UserError for a strength that is impossible at a store's rate in Hz."""
    if name == "lowpass" and strength >= rate / 2:
        raise UserError(
            f"lowpass={strength:g}: the store holds nothing from {rate / 2:g} Hz, half of its rate, on"
        )
    DISTURB[name](torch.zeros(1, 1), strength, rate, 0)


def disturbed(clip: Tensor, name: str, strength: float, rate: int, seed: int = 0) -> Tensor:
    """Return a clip, float32 `(samples,)` at `rate` Hz, disturbed; only `stretch` changes its length."""
    return DISTURB[name](clip[None], strength, rate, seed)[0].clamp(-1, 1)


def clip_probabilities(
    subject: Subject, name: str | None = None, strength: float = 0.0
) -> NDArray[np.float32]:
    """Return the probabilities of the test clips, `(clips, tags)`, under a disturbance or (None) as they are.

    A bar shows the clips that are done.
    """
    data = subject.data
    part, store = data.parts["test"], data.store
    average = ClipAverage(len(part.clips), len(subject.tags))
    bar = f"{name}={strength:g}" if name else "undisturbed"
    for index, clip in enumerate(tqdm(part.clips.tolist(), desc=bar, unit="clip", disable=None)):
        samples = torch.from_numpy(store.clip(clip)).to(subject.device).float() / 32768
        if name is not None:
            seed = crc32(part.clip_ids[index].encode())
            samples = disturbed(samples, name, strength, store.sample_rate, seed)
        cut = torch.from_numpy(segments(samples.cpu().numpy(), part.segment_samples))
        chosen = evenly_spaced(np.zeros(len(cut), dtype=np.int64), data.test_segments)
        for batch in cut[chosen].split(data.evaluated_at_once("test", subject.device)):
            average.update(subject.probabilities(batch), torch.full((len(batch),), index))
    return average.compute()
