"""A finished run, tested again from its folder."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from samplecnn import threads
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.memory import keep_freed_memory
from samplecnn.model.architecture import Blocks, Networks
from samplecnn.runs.config import RunConfig
from samplecnn.runs.description import Description
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import load_model, read_config, read_description
from samplecnn.runs.results import SplitScores
from samplecnn.training.backends import test_backend
from samplecnn.training.module import TaggingModule
from samplecnn.training.stores import find_store, make_data
from samplecnn.training.trainer import make_trainer, quiet_libraries


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
        some = ", ".join(part.clip_ids[:3])
        raise RunError(f"clip {clip_id!r} is not in the test split of {run}; it has {some}, ...")
    clip = int(part.clips[index])
    tags = tuple(tag for tag, label in zip(data.selection.tags, part.labels[index], strict=True) if label)
    path = store.clip_paths[clip]
    return ExampleClip(part.clip_ids[index], path, tags, store.clip(clip), store.sample_rate)
