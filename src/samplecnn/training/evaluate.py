"""A finished run, tested again from its folder; any model, tested on a prepared store."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from samplecnn import threads
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.store import Part
from samplecnn.hardware import usable_device
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import Blocks, Networks
from samplecnn.model.backends.fold import fold
from samplecnn.model.network import STEM, use
from samplecnn.model.networks.network import Network
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import Model, load_model, read_config, read_description
from samplecnn.runs.metrics import ClipAverage, score
from samplecnn.runs.results import SplitScores
from samplecnn.text import shown
from samplecnn.training.backends.choice import test_backend
from samplecnn.training.backends.graph import autocast
from samplecnn.training.stores import find_store, make_data
from samplecnn.training.trainer import device_and_precision


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, and the test part that it is tested on."""

    network: Network  # in evaluation mode, on the device
    device: torch.device
    precision: str  # by Lightning's name
    tags: tuple[str, ...]  # the model's, in its order
    data: SegmentDataModule
    file: Path  # that the weights are from

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Of the test clips, ``(clips, tags)``."""
        theirs = self.data.selection.tags
        labels: NDArray[np.uint8] = self.data.parts["test"].labels[
            :, [theirs.index(tag) for tag in self.tags]
        ]
        return labels

    def probabilities(self, waveforms: Tensor) -> Tensor:
        """Return ``(batch, tags)`` of segments at the store's rate, float32 ``(batch, samples)``."""
        heard = self.data.resampled(waveforms.to(self.device))
        with torch.inference_mode(), autocast(self.device, self.precision):
            return self.network(heard).float().sigmoid().cpu()

    def clip_means(self, part: str) -> NDArray[np.float32]:
        """Return ``(clips, tags)`` of a part: means over the segments of each clip."""
        average = ClipAverage(len(self.data.parts[part].clip_ids), len(self.tags))
        for rows, clips in by_batch(self.data, part, self.probabilities, self.device):
            average.update(rows, clips)
        return average.compute()

    def scores(self) -> SplitScores:
        """Return the scores of the test part."""
        return score(self.tags, self.labels, self.clip_means("test"))


def open_subject(
    model: Path,
    *,
    store: Path | None = None,
    split: str | None = None,
    data_root: Path | None = None,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> Subject:
    """Return a run's best weights with its test split, or any model with the test part of a ``store``.

    A run is computed as its training tested it, on one device: its scores are the same. ``data_root`` is
    where the stores are now, if not where the run found them. A model on a store is computed in float32;
    ``split`` is by default the one that it was trained on, and a store of another rate is resampled.

    Raises RunError for what is no run or model, for a store whose split or tags are not the run's, and for a
    model whose tags are not the store's most frequent; StoreError for another split than the store has.
    """
    loaded = load_model(model, blocks, networks)
    if store is None:
        config = read_config(model)
        data = open_data(model, data_root)
        keep_freed_memory()
        threads.use_available()
        trainer = config.trainer
        if trainer.accelerator == "cuda":  # which the training asked for; here there may be none
            trainer = replace(trainer, accelerator="auto")
        device, precision = device_and_precision(trainer)
        network = loaded.network.to(device)
        use(network, test_backend(config.fast))
    else:
        data = SegmentDataModule(
            store,
            split=split or str(loaded.description.split),
            top=len(loaded.tags),
            sample_rate=loaded.sample_rate,
            segment_samples=loaded.segment_samples,
        )
        theirs = data.selection.tags
        if missing := sorted(set(loaded.tags) - set(theirs)):
            raise RunError(
                f"{model} knows the tag {shown(missing[0])}, which is none of the {len(theirs)} most "
                f"frequent of {store}: on other tags its scores would not be comparable"
            )
        network, device = for_inference(loaded)
        precision = "32-true"
    return Subject(network, device, precision, loaded.tags, data, loaded.checkpoint)


def for_inference(model: Model) -> tuple[Network, torch.device]:
    """Return a model's network, made for inference in float32, and the device that it is on."""
    keep_freed_memory()
    threads.use_available()
    device = usable_device()
    network = fold(model.network).to(device)
    use(network, STEM)
    return network, device


def by_batch(
    data: SegmentDataModule,
    name: str,
    compute: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what ``compute`` makes of each batch of a part, on the CPU, and the clips of its segments.

    ``name`` is that of the part; ``compute`` takes float32 segments at the store's rate ``(batch, samples)``.
    A batch has as many as in tests on ``device``.
    """
    part = data.parts[name]
    for chosen in tqdm(data.in_order(name, device), desc=name, unit="batch", disable=None):
        stored = data.store.gather(part.segment_spans[chosen], samples=part.segment_samples)
        rows = compute(torch.from_numpy(stored).float() / 32768)
        yield rows, torch.from_numpy(part.segment_clip[chosen])


def open_data(run: Path, data_root: Path | None = None) -> SegmentDataModule:
    """Return the data that a run was trained on; RunError if the store now holds other clips or tags."""
    config, description = read_config(run), read_description(run)
    store = find_store(data_root or config.data.root, config.data.name, description.sample_rate)
    data = make_data(config, store, description.sample_rate, description.segment_samples)
    for what, ours, theirs in (
        ("tags", data.selection.tags, description.tags),
        ("split", data.selection.split_hash, description.split_hash),
    ):
        if ours != theirs:
            raise RunError(
                f"the store {store} has another {what} than the one {run} was trained on: "
                "its scores would not be comparable. Name the right folder of stores with --data-root"
            )
    return data


def validation_segments(run: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return up to ``count`` segments from all over a run's validation split, and of which clip each is.

    They are (n, samples) in [-1, 1), and (n,).
    """
    data = open_data(run)
    part = data.selection.parts["valid"]
    chosen = np.linspace(0, len(part.segment_spans) - 1, min(count, len(part.segment_spans))).astype(int)
    stored = data.store.gather(part.segment_spans[chosen], samples=part.segment_samples)
    heard: NDArray[np.float32] = data.heard(torch.from_numpy(stored)).numpy()
    return heard, part.segment_clip[chosen]


def example_clip(part: Part, clip_id: str | None = None) -> int:
    """Return the index in a part of the clip with ``clip_id``, or of the first with three tags or more.

    Raises RunError for an id that is not in it.
    """
    if clip_id is None:
        return int((part.labels.sum(axis=1) >= 3).argmax())
    if clip_id in part.clip_ids:
        return part.clip_ids.index(clip_id)
    near = difflib.get_close_matches(clip_id, part.clip_ids) or part.clip_ids[:3]
    raise RunError(
        f"clip {clip_id!r} is not in the test split: the nearest of {len(part.clip_ids)} are "
        f"{', '.join(near)} (all are in the run's predictions.npz)"
    )
