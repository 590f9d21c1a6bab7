"""Embeddings of the clips of a prepared store, kept in a file: they take longer than what learns of them.

    FOLDER/embeddings-KEY.npz    train, valid, test: float32 (clips, features), in the order of the store

KEY is a hash of what they depend on: weights, levels, store and split. The file is untrusted input.
"""

import hashlib
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from samplecnn.data.catalog import PARTS
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.store import MANIFEST
from samplecnn.files import writing
from samplecnn.model.levels import Levels
from samplecnn.runs.folder import Model
from samplecnn.runs.weights import file_sha256
from samplecnn.training.evaluate import clip_means, for_inference

log = logging.getLogger(__name__)

Features = dict[str, NDArray[np.float32]]  # by part: (clips, features)


def store_features(
    model: Model, data: SegmentDataModule, levels: Sequence[str] | None, folder: Path
) -> tuple[Features, tuple[str, ...]]:
    """Return the embeddings of all clips by part, means over their segments, and the names of the levels.

    They are read from ``folder`` if they are there, else computed in float32 and written into it. Raises
    ``samplecnn.model.levels.LevelError`` for levels that the network does not have.
    """
    network, device = for_inference(model)
    clips = {part: len(data.parts[part].clip_ids) for part in PARTS}
    with Levels(network, levels) as reader:

        @torch.inference_mode()
        def embed(segments: torch.Tensor) -> torch.Tensor:
            network(data.resampled(segments.to(device)))
            return torch.cat(reader.take(), dim=1).cpu()

        columns = embed(torch.zeros(1, data.parts["test"].segment_samples)).shape[1]
        path = folder / f"embeddings-{_key(model, data, reader.names)}.npz"
        if (kept := _read(path, {part: (clips[part], columns) for part in PARTS})) is not None:
            log.info("embeddings are read from %s", path)
            return kept, reader.names
        found = {part: clip_means(data, part, embed, columns) for part in PARTS}
    folder.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        np.savez(file, allow_pickle=False, **found)
    return found, reader.names


def _key(model: Model, data: SegmentDataModule, levels: Sequence[str]) -> str:
    store = file_sha256(data.store.path / MANIFEST)
    parts = (file_sha256(model.checkpoint), ",".join(levels), store, data.selection.split_hash)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path, shapes: Mapping[str, tuple[int, int]]) -> Features | None:
    """Return what a file holds; None without one, and for one that does not hold arrays of these shapes."""
    if not path.is_file():
        return None
    most = sum(4 * clips * columns for clips, columns in shapes.values()) + 4096  # and headers
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as file:
            found = {part: file[part] for part in shapes}
        for part, shape in shapes.items():
            if (
                found[part].shape != shape
                or found[part].dtype != np.float32
                or not np.isfinite(found[part]).all()
            ):
                raise ValueError(f"{part} is not {shape} finite numbers")
    except Exception as error:  # a damaged archive raises whatever its layers do
        log.warning("%s is damaged (%s): the embeddings are computed again", path, error)
        return None
    return found
