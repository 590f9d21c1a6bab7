"""Tags for any audio, from a trained model.

tagger = samplecnn.load("runs/demo")
tagger.predict(waveform, sample_rate)  # one probability per tag, in the order of tagger.tags
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from samplecnn.data import audio
from samplecnn.hardware import multiplies_bfloat16
from samplecnn.model.fold import fold
from samplecnn.model.network import STEM
from samplecnn.training.runs import Model, load_model

BATCH = 10  # segments at once: 29 s of audio
MAX_CHANNELS = 32


class Tagger:
    """A trained network with its tags.

    Attributes: ``tags``, in the order of all probabilities; ``sample_rate`` in Hz of what the network
    hears (other rates are resampled); ``network``, folded for inference; ``description``, what it is of;
    ``dtype``, what the network computes in.
    """

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.network = fold(model.network).to(device, dtype)
        self.network.use(STEM)
        self.dtype = dtype
        self.tags = model.tags
        self.sample_rate = model.sample_rate
        self.description = model.description
        self.checkpoint = model.checkpoint
        self.device = device

    def predict(self, waveform: ArrayLike | Tensor, sample_rate: int) -> NDArray[np.float32]:
        """Return the probability of each tag, ``(tags,)``: the mean over the waveform's segments.

        ``waveform`` holds floats in [-1, 1], mono ``(samples,)`` or ``(channels, samples)``. The end that
        fills no whole segment of 2.7 s is left out; a waveform shorter than one segment is filled up with
        silence. Raises ValueError for samples that are not finite floats, and for no samples.
        """
        samples = _floats(waveform, "the waveform")
        if samples.ndim == 2 and samples.shape[0] <= MAX_CHANNELS:
            samples = samples.mean(axis=0)
        if samples.ndim != 1:
            raise ValueError(
                f"a waveform is (samples,) or (channels, samples) with up to {MAX_CHANNELS} channels, "
                f"not {samples.shape}"
            )
        if samples.size == 0:
            raise ValueError("the waveform has no samples")
        return self._tag(audio.resample(samples, sample_rate, self.sample_rate))

    def predict_file(self, path: str | Path) -> NDArray[np.float32]:
        """Return the probability of each tag, ``(tags,)``, for an audio file that soundfile reads.

        Raises ``samplecnn.data.audio.AudioError`` for a file that cannot be decoded.
        """
        samples, rate = audio.decode(path)
        return self._tag(audio.resample(samples, rate, self.sample_rate))

    def predict_segments(self, segments: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the probabilities ``(batch, tags)`` of segments ``(batch, 59049)`` in [-1, 1].

        The segments are at the model's own sample rate.
        """
        batch = torch.from_numpy(_floats(segments, "segments")).to(self.device)
        with torch.inference_mode():
            return self.network(batch.to(self.dtype)).float().sigmoid().cpu().numpy()

    def _tag(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        segments = audio.segments(samples)
        batches = [
            self.predict_segments(segments[start : start + BATCH]) for start in range(0, len(segments), BATCH)
        ]
        return np.concatenate(batches).mean(axis=0)


def load(
    path: str | Path,
    *,
    blocks: Mapping[str, type[nn.Module]] | None = None,
    device: str | torch.device | None = None,
    precision: str = "auto",
) -> Tagger:
    """Return a tagger from a run folder or a checkpoint.

    ``blocks`` holds the classes of blocks that are not the paper's, by name: no class that a file names is
    ever imported. ``device`` is CUDA where there is a GPU, by default. ``precision`` is "32" or "bf16"
    (bfloat16: about twice as fast, probabilities off by less than 0.01); "auto" is the latter where the
    hardware multiplies in it. Raises ``samplecnn.training.runs.RunError`` for a path that is not a trained
    model, and ValueError for another precision.
    """
    allowed = {"32": torch.float32, "bf16": torch.bfloat16}
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if precision == "auto":
        precision = "bf16" if multiplies_bfloat16(chosen.type) else "32"
    if precision not in allowed:
        raise ValueError(f"precision is {precision!r}; allowed are auto, {', '.join(allowed)}")
    return Tagger(load_model(path, blocks), chosen, allowed[precision])


def _floats(values: Any, what: str) -> NDArray[np.float32]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{what} must hold floats in [-1, 1], not {array.dtype}: divide 16-bit samples by 32768"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must hold finite numbers only; some are NaN or infinite")
    return np.ascontiguousarray(array, dtype=np.float32)
