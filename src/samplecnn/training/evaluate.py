"""A finished run, tested again from its folder; any model, tested on a prepared store."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from samplecnn import threads
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.hardware import missing_kernels
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import Blocks, Networks
from samplecnn.model.backends.fold import fold
from samplecnn.model.network import STEM, use
from samplecnn.model.networks.network import Network
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import Model, load_model, read_config, read_description
from samplecnn.runs.metrics import ClipAverage, score
from samplecnn.runs.results import SplitScores
from samplecnn.text import shown
from samplecnn.training.backends import test_backend
from samplecnn.training.graph import autocast
from samplecnn.training.module import TaggingModule
from samplecnn.training.stores import find_store, make_data
from samplecnn.training.trainer import device_and_precision, make_trainer, quiet_libraries


def evaluate(
    run: Path,
    *,
    data_root: Path | None = None,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> SplitScores:
    """Test the best weights of a run on its test split, as its training did, on one device.

    ``data_root`` is where the stores are now, if not where the run found them. Raises RunError for a folder
    that is not a run and for a store whose split or tags are not the run's.
    """
    quiet_libraries()
    keep_freed_memory()
    threads.use_available()
    config = read_config(run)
    model = load_model(run, blocks, networks)
    data = open_data(run, config, model.description, data_root)
    module = TaggingModule(
        model.network, description=model.description.as_dict(), test_backend=test_backend(config.fast)
    )
    config = replace(config, trainer=replace(config.trainer, devices=1, num_nodes=1))
    trainer = make_trainer(config, run, logger=False, enable_checkpointing=False)
    trainer.test(module, datamodule=data, verbose=False)
    assert module.test_scores is not None
    return module.test_scores


def evaluate_on(
    model: Path,
    store: Path,
    split: str | None = None,
    *,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> SplitScores:
    """Return a model's scores on the test part of a store, in float32: all whole segments, a mean per clip.

    ``split`` is by default the one that the model was trained on. A store of another rate is resampled.
    Raises RunError for a model whose tags are not the store's most frequent, StoreError for another split.
    """
    subject = subject_on(model, store, split, blocks=blocks, networks=networks)
    said = clip_means(subject.data, "test", subject.probabilities, len(subject.tags))
    return score(subject.tags, subject.labels, said)


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


def subject_of(
    run: Path,
    *,
    data_root: Path | None = None,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> Subject:
    """Return a run and its test split, to be computed as `evaluate` does; arguments and errors as there."""
    keep_freed_memory()
    threads.use_available()
    config = read_config(run)
    model = load_model(run, blocks, networks)
    data = open_data(run, config, model.description, data_root)
    device, precision = device_and_precision(config.trainer)
    network = model.network.to(device)
    use(network, test_backend(config.fast))
    return Subject(network, device, precision, model.tags, data, model.checkpoint)


def subject_on(
    model: Path,
    store: Path,
    split: str | None = None,
    *,
    blocks: Blocks | None = None,
    networks: Networks | None = None,
) -> Subject:
    """Return a model and the test part of a store, in float32; arguments and errors as of `evaluate_on`."""
    loaded = load_model(model, blocks, networks)
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
            f"{model} knows the tag {shown(missing[0])}, which is none of the {len(theirs)} most frequent of "
            f"{store}: on other tags its scores would not be comparable"
        )
    network, device = for_inference(loaded)
    return Subject(network, device, "32-true", loaded.tags, data, loaded.checkpoint)


def for_inference(model: Model) -> tuple[Network, torch.device]:
    """Return a model's network, made for inference in float32, and the device that it is on."""
    keep_freed_memory()
    threads.use_available()
    usable = torch.cuda.is_available() and not missing_kernels()
    device = torch.device("cuda" if usable else "cpu")
    network = fold(model.network).to(device)
    use(network, STEM)
    return network, device


def clip_means(
    data: SegmentDataModule, name: str, compute: Callable[[Tensor], Tensor], columns: int
) -> NDArray[np.float32]:
    """Return the mean over each clip's segments of what ``compute`` makes of them, ``(clips, columns)``.

    ``name`` is that of the part; ``compute`` takes float32 segments at the store's rate ``(batch, samples)``
    and returns ``(batch, columns)`` on the CPU.
    """
    part = data.parts[name]
    average = ClipAverage(len(part.clip_ids), columns)
    for chosen in tqdm(data.in_order(name), desc=name, unit="batch", disable=None):
        stored = data.store.gather(part.segment_spans[chosen], samples=part.segment_samples)
        rows = compute(torch.from_numpy(stored).float() / 32768)
        average.update(rows, torch.from_numpy(part.segment_clip[chosen]))
    return average.compute()


def open_data(
    run: Path, config: RunConfig, description: Description, data_root: Path | None = None
) -> SegmentDataModule:
    """Return the data that a run was trained on; RunError if the store now holds other clips or tags."""
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


def validation_segments(run: Path, count: int) -> NDArray[np.float32]:
    """Return up to ``count`` segments (n, samples) in [-1, 1), from all over a run's validation split."""
    data = open_data(run, read_config(run), read_description(run))
    part = data.selection.parts["valid"]
    chosen = np.linspace(0, len(part.segment_spans) - 1, min(count, len(part.segment_spans))).astype(int)
    stored = data.store.gather(part.segment_spans[chosen], samples=part.segment_samples)
    heard: NDArray[np.float32] = data.heard(torch.from_numpy(stored)).numpy()
    return heard


@dataclass(frozen=True, eq=False)
class ExampleClip:
    """A clip of the test split with its true tags."""

    id: str
    path: str  # relative to the data set's audio
    tags: tuple[str, ...]
    samples: NDArray[np.int16]  # (samples,)
    sample_rate: int  # Hz


def example_clip(run: Path, clip_id: str | None = None, *, data_root: Path | None = None) -> ExampleClip:
    """Return a test clip of a run: the one with ``clip_id``, or the first with three tags or more.

    Its samples come from the store in ``data_root``, by default where the run found it. Raises RunError for
    an id that is not in the test split.
    """
    data = open_data(run, read_config(run), read_description(run), data_root)
    part, store = data.selection.parts["test"], data.store
    if clip_id is None:
        index = int((part.labels.sum(axis=1) >= 3).argmax())
    elif clip_id in part.clip_ids:
        index = part.clip_ids.index(clip_id)
    else:
        near = difflib.get_close_matches(clip_id, part.clip_ids) or part.clip_ids[:3]
        raise RunError(
            f"clip {clip_id!r} is not in the test split of {run}: the nearest of {len(part.clip_ids)} are "
            f"{', '.join(near)} (all are in its predictions.npz)"
        )
    clip = int(part.clips[index])
    tags = tuple(tag for tag, label in zip(data.selection.tags, part.labels[index], strict=True) if label)
    path = store.clip_paths[clip]
    return ExampleClip(part.clip_ids[index], path, tags, store.clip(clip), store.sample_rate)
