"""Tags for any audio, from a trained model.

tagger = samplecnn.load("runs/demo")
tagger.predict(waveform, sample_rate)  # one probability per tag, in the order of tagger.tags
tagger.timeline("song.mp3").probabilities  # of every segment, 2.7 s of a SampleCNN's
tagger.embed(waveform, sample_rate)  # what the network tags by
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from samplecnn import threads
from samplecnn.data import audio
from samplecnn.errors import UserError
from samplecnn.hardware import multiplies_bfloat16, usable_device
from samplecnn.inference.embedding import mean_over_time, with_embeddings
from samplecnn.inference.locate import local
from samplecnn.inference.timeline import Envelope, Timeline, averaged, hop_samples
from samplecnn.inference.waveforms import floats, mono
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import Blocks, Networks
from samplecnn.model.backends.fold import fold
from samplecnn.model.levels import Levels
from samplecnn.model.network import STEM, SampleCNN, use
from samplecnn.model.probe import Probe
from samplecnn.runs.folder import Model, load_model
from samplecnn.runs.thresholds import Thresholds, read_thresholds

BATCH = 10  # segments at once: 29 s of audio

Progress = Callable[[float, float | None], object]  # seconds done, and seconds there are if that is known
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Tagger:
    """A trained network with its tags.

    Attributes: ``tags``, in the order of all probabilities; ``sample_rate`` in Hz of what the network
    hears (other rates are resampled), and ``segment_samples``, how much at once; ``network``, folded for
    inference; ``description``, what it is of; ``dtype``, what the network computes in.
    """

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        # A spectrogram needs single precision, whatever the layers behind it compute in.
        self._autocast = dtype != torch.float32 and not isinstance(model.network, SampleCNN)
        self.network = fold(model.network).to(device, torch.float32 if self._autocast else dtype)
        use(self.network, STEM)
        self.dtype = dtype
        self.tags = model.tags
        self.sample_rate = model.sample_rate
        self.segment_samples = model.segment_samples
        self.description = model.description
        self.checkpoint = model.checkpoint
        self.device = device

    def __repr__(self) -> str:
        kind, data = self.description.words[0], self.description.data
        trained = f" of {data}" if data else ""
        return f"Tagger({kind}, {len(self.tags)} tags{trained}, {self.sample_rate} Hz, {self.checkpoint})"

    def predict(
        self, waveform: ArrayLike | Tensor, sample_rate: float, *, overlap: float = 0.0, average: str = "mean"
    ) -> NDArray[np.float32]:
        """Return the probability of each tag, ``(tags,)``: the mean over the waveform's segments.

        ``waveform`` holds floats in [-1, 1], mono ``(samples,)`` or ``(channels, samples)``. The end that
        fills no whole segment is left out; a waveform shorter than one segment is filled up with
        silence. ``overlap`` is the share of a segment that the next one hears again, 0 to 0.95; ``average``
        "mean", "median" or "max". Raises UserError for samples that are not finite floats or far outside of
        [-1, 1], for no samples, and for what is not allowed.
        """
        batches = self._batches(waveform, sample_rate, overlap)
        return averaged(np.concatenate([self.predict_segments(batch) for batch in batches]), average)

    def predict_file(
        self, path: str | Path, *, overlap: float = 0.0, average: str = "mean", strict: bool = True
    ) -> NDArray[np.float32]:
        """Return the probability of each tag, ``(tags,)``, for an audio file, in constant memory.

        ``overlap`` and ``average`` are as for `predict`, ``strict`` and errors as for `timeline`.
        """
        return self.timeline(path, overlap=overlap, strict=strict).average(average)

    def embed(
        self,
        waveform: ArrayLike | Tensor,
        sample_rate: float,
        levels: Sequence[str] | None = None,
        *,
        overlap: float = 0.0,
        over_time: bool = False,
    ) -> NDArray[np.float32]:
        """Return the embedding of a waveform, ``(features,)``: the mean over its segments.

        With ``over_time`` that of each segment, ``(segments, features)``. ``levels`` of the network are
        joined in their order (see `samplecnn.model.levels`); by default what the network tags by: of a
        SampleCNN the maxima over time of its last three blocks, of other networks what their last layer
        hears. Raises UserError as `predict` does, and for levels that the network does not have.
        """
        with Levels(self.network, levels) as read:
            predict = with_embeddings(self, read)
            rows = [predict(batch) for batch in self._batches(waveform, sample_rate, overlap)]
        embeddings = np.concatenate(rows)[:, len(self.tags) :]
        return embeddings if over_time else mean_over_time(embeddings)

    def embed_file(
        self,
        path: str | Path,
        levels: Sequence[str] | None = None,
        *,
        overlap: float = 0.0,
        over_time: bool = False,
        strict: bool = True,
    ) -> NDArray[np.float32]:
        """Return what `embed` does, for an audio file, in constant memory but for what is returned.

        ``strict`` and errors are as for `timeline`.
        """
        with Levels(self.network, levels) as read:
            predict = with_embeddings(self, read)
            embeddings = self.timeline(path, overlap=overlap, strict=strict, predict=predict).embeddings
        assert embeddings is not None
        return embeddings if over_time else mean_over_time(embeddings)

    def timeline(
        self,
        path: str | Path,
        *,
        overlap: float = 0.0,
        progress: Progress | None = None,
        strict: bool = True,
        predict: Predict | None = None,
    ) -> Timeline:
        """Return the probabilities of the tags over time, for an audio file.

        The file is decoded as it is tagged: only what is returned grows with its length. ``progress`` is
        called now and then with the seconds that are done and those that the file states (None: it does not).
        An incomplete file is refused, or if not ``strict`` tagged as far as it goes, with a warning.
        ``predict`` is as for `listen`. Raises ``samplecnn.data.audio.AudioError`` for a file that cannot be
        decoded, also when that shows at its end only, and UserError for another ``overlap``.
        """
        with audio.Decoder(path, strict=strict) as decoder:
            timeline = self.listen(decoder, overlap=overlap, progress=progress, predict=predict)
        if decoder.warning is not None:
            warnings.warn(f"{path}: {decoder.warning}", stacklevel=2)
        return timeline

    def listen(
        self,
        decoder: audio.Decoder | audio.RemoteDecoder,
        *,
        overlap: float = 0.0,
        progress: Progress | None = None,
        predict: Predict | None = None,
    ) -> Timeline:
        """Return what `timeline` does, for a file that is open, in this process or another.

        ``predict`` takes the place of `predict_segments`, as where several files share the network's batches.
        What it returns behind the probabilities are the segments' embeddings.
        """
        hop = hop_samples(overlap, self.segment_samples)
        envelope = Envelope(self.sample_rate)
        rows: list[NDArray[np.float32]] = []

        def heard(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
            for block in blocks:
                envelope.push(block)
                yield block

        blocks = heard(audio.stream(decoder, self.sample_rate))
        for batch in audio.frames(blocks, hop, BATCH, self.segment_samples):
            rows.append((predict or self.predict_segments)(batch))
            if progress is not None:
                progress(sum(map(len, rows)) * hop / self.sample_rate, decoder.seconds)
        probabilities, embeddings = np.hsplit(np.concatenate(rows), [len(self.tags)])
        return Timeline(
            tuple(self.tags),
            np.arange(len(probabilities)) * hop / self.sample_rate,
            probabilities,
            envelope.samples / self.sample_rate,
            self.segment_samples / self.sample_rate,
            envelope.finish(),
            embeddings if embeddings.shape[1] else None,
        )

    def predict_segments(self, segments: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Return the probabilities ``(batch, tags)`` of segments ``(batch, segment_samples)`` in [-1, 1].

        The segments are at the model's own sample rate. Raises UserError for others, and for a model whose
        probabilities are not finite.
        """
        batch = torch.from_numpy(floats(segments, "segments")).to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self._autocast):
            logits = self.network(batch if self._autocast else batch.to(self.dtype))
        probabilities = logits.float().sigmoid().cpu().numpy()
        if not np.isfinite(probabilities).all():
            raise UserError("this model gives probabilities that are not finite: its training diverged")
        return probabilities

    @cached_property
    def thresholds(self) -> Thresholds:
        """The tags' thresholds that came with the model; RunError, which says what to do, if none did."""
        return read_thresholds(self.checkpoint, self.tags)

    def decide(self, probabilities: ArrayLike) -> tuple[str, ...]:
        """Return the tags whose probability reaches its threshold, the likeliest first.

        ``probabilities`` are those of one recording, ``(tags,)``, the mean over its segments as `predict`
        returns it: thresholds were chosen on such means. Raises RunError for a model without thresholds.
        """
        given = np.asarray(probabilities)
        if given.shape != (len(self.tags),):
            raise UserError(f"probabilities are ({len(self.tags)},), one per tag, not {given.shape}")
        by_tag = dict(zip(self.tags, given.tolist(), strict=True))
        return tuple(self.thresholds.decided(by_tag))

    def _batches(
        self, waveform: ArrayLike | Tensor, sample_rate: float, overlap: float
    ) -> Iterator[NDArray[np.float32]]:
        """Check a waveform and cut it into batches of segments, ``(batch, segment_samples)``."""
        resampled = audio.resample(mono(waveform), sample_rate, self.sample_rate)
        hop = hop_samples(overlap, self.segment_samples)
        return audio.frames([resampled], hop, BATCH, self.segment_samples)


def load(
    path: str | Path,
    *,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
    device: str | torch.device | None = None,
    precision: str = "auto",
) -> Tagger:
    """Return a tagger from a run folder, a checkpoint, a bundle, or a name: see `samplecnn.inference.locate`.

    ``blocks`` and ``networks`` hold the classes of those that are not of this project, by name: no class
    that a file names is ever imported. ``device`` is CUDA where there is a GPU that this PyTorch can
    compute on, by default. ``precision`` is "32" or "bf16" (bfloat16: about twice as fast, probabilities
    off by less than 0.01); "auto" is the latter where the hardware multiplies in it, but for probes: they
    magnify what is small. On a CPU the process keeps the memory that it frees from then on (Linux), which
    halves the time, and computes in no more threads than it has cores to use. Raises
    ``samplecnn.runs.folder.RunError`` for a path that is not a trained model, and UserError for a model
    that cannot be had there, for published weights that were not pulled yet and for another precision.
    """
    allowed = {"32": torch.float32, "bf16": torch.bfloat16}
    chosen = usable_device() if device is None else torch.device(device)
    if precision not in ("auto", *allowed):
        raise UserError(f"precision is {precision!r}; allowed are auto, {', '.join(allowed)}")
    model = load_model(local(path), blocks, networks)
    if precision == "auto":
        fast = multiplies_bfloat16(chosen.type) and not isinstance(model.network, Probe)
        precision = "bf16" if fast else "32"
    if chosen.type == "cpu":
        keep_freed_memory()
        threads.use_available()
    return Tagger(model, chosen, allowed[precision])
