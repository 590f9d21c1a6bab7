"""Embeddings of the segments of a prepared store, kept in a file: they take longer than what learns of them.

    FOLDER/embeddings-KEY.npz    train, valid, test: float32 (segments, features), in the order of the store

KEY is a hash of what they depend on: weights, levels, store and split. The file is untrusted input.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.data.catalog import PARTS
from samplecnn.data.datamodule import SegmentDataModule
from samplecnn.data.store import MANIFEST
from samplecnn.files import writing
from samplecnn.model.levels import Levels
from samplecnn.model.networks.network import Network
from samplecnn.runs.untrusted import read_arrays
from samplecnn.runs.weights import file_sha256
from samplecnn.training.evaluate import by_batch

log = logging.getLogger(__name__)

Features = dict[str, NDArray[np.float32]]  # by part: (segments, features)


def store_features(
    network: Network,
    weights: str,
    data: SegmentDataModule,
    levels: Levels,
    folder: Path,
    device: torch.device,
) -> Features:
    """Return the embeddings of all segments by part.

    They are read from ``folder`` if they are there, else computed on ``device``, where the network is, and
    written into it. ``weights`` is the SHA-256 of the network's weights.
    """
    columns = sum(levels.widths)
    path = folder / f"embeddings-{_key(weights, data, levels)}.npz"
    if (
        kept := _read(path, {part: (len(data.parts[part].segment_clip), columns) for part in PARTS})
    ) is not None:
        log.info("embeddings are read from %s", path)
        return kept

    @torch.inference_mode()
    def embed(segments: Tensor) -> Tensor:
        network(data.resampled(segments.to(device)))
        return torch.cat(levels.take(), dim=1).cpu()

    with levels:
        found = {
            part: torch.cat([rows for rows, _ in by_batch(data, part, embed, device)]).numpy()
            for part in PARTS
        }
    folder.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        np.savez(file, allow_pickle=False, **found)
    return found


def _key(weights: str, data: SegmentDataModule, levels: Levels) -> str:
    store = file_sha256(data.store.path / MANIFEST)
    parts = ("segments", weights, ",".join(levels.names), store, data.selection.split_hash)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path, shapes: Mapping[str, tuple[int, int]]) -> Features | None:
    """Return what a file holds; None without one, and for one that does not hold arrays of these shapes."""
    if not path.is_file():
        return None
    most = sum(4 * rows * columns for rows, columns in shapes.values()) + 4096  # and headers
    try:
        found = read_arrays(path, most)
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
