"""Musicnn as Pons and Serra (2019) published it, its TensorFlow variables in an .npz file; untrusted input.

The layers are numbered as they were made: ``conv2d``, ``conv2d_1`` and so on. Theirs joins the branches of
the front end as 38, 67 bands, ours as 67, 38; over time theirs alternates maximum and mean.
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from samplecnn.inference.known.convert import ConversionError, Converted, architecture, fitted, outputs_of
from samplecnn.model.architecture import build
from samplecnn.model.networks.musicnn import LONG, LONG_FRAMES, TALL
from samplecnn.model.networks.spectrogram import SAMPLE_RATE
from samplecnn.runs.weights import require_same_names

TITLE = "Musicnn of Pons and Serra"
MAX_FILE = 64 << 20  # bytes, unpacked; the largest that they published takes 32 MB

# Layers of ours in the order of theirs.
CONVOLUTIONS = ("tall.1", "tall.0", "long.0", "long.1", "long.2", "mid.0", "mid.1", "mid.2")
NORMS = ("input_bn", *(f"{layer}.bn" for layer in CONVOLUTIONS), "pooled_bn", "fc_bn")
LAYERS = {
    **{f"{layer}.conv": ("conv2d", number) for number, layer in enumerate(CONVOLUTIONS)},
    **{layer: ("batch_normalization", number) for number, layer in enumerate(NORMS)},
    **{layer: ("dense", number) for number, layer in enumerate(("fc", "last"))},
}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
LAYER = {"weight": "kernel", "bias": "bias"}
COUNT = "num_batches_tracked"  # theirs do not count


def is_npz(path: Path) -> bool:
    """Say whether a file is an archive of NumPy arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def convert_npz(path: Path) -> Converted:
    """Return the network in an archive; RunError, which names the file, for any other content."""
    file = read_npz(path)
    tags, dense, mid = (outputs_of(path, f"{layer}/bias", file) for layer in ("dense_1", "dense", "conv2d_5"))
    options = {"original": True, "mid": mid, "dense": dense}
    with torch.device("meta"):
        expected = build(architecture("musicnn", options, SAMPLE_RATE), tags).state_dict()
    theirs = {name: their_name(name) for name in expected if not name.endswith(COUNT)}
    require_same_names(path, file, theirs.values())
    weights = {
        name: fitted(path, theirs[name], turned(name, file[theirs[name]]), expected[name]) for name in theirs
    }
    reorder(weights, mid)
    counts = {name: torch.tensor(0) for name in expected if name.endswith(COUNT)}
    return Converted(TITLE, "musicnn", options, {**weights, **counts}, tags, SAMPLE_RATE)


def their_name(name: str) -> str:
    """Return what a weight of ours is called in the file."""
    layer, _, leaf = name.rpartition(".")
    kind, number = LAYERS[layer]
    leaves = NORM if kind == "batch_normalization" else LAYER
    return f"{kind}{f'_{number}' if number else ''}/{leaves[leaf]}"


def turned(name: str, weight: Tensor) -> Tensor:
    """Return a kernel as PyTorch has it: (time, bands, in, out) becomes (out, in, bands, time)."""
    if weight.ndim == 4 and name.startswith("mid."):  # over time alone: theirs has the channels as bands
        weight = weight.transpose(1, 2)
    return weight.permute(*reversed(range(weight.ndim)))


def reorder(weights: dict[str, Tensor], mid: int) -> None:
    """Put the inputs of the layers that hear joined or pooled features into our order."""
    front = torch.cat([torch.arange(TALL, 2 * TALL), torch.arange(TALL)])
    rest = torch.arange(2 * TALL, 2 * TALL + len(LONG_FRAMES) * LONG + 3 * mid)
    features = torch.cat([front, rest])
    pooled = torch.cat([2 * features, 2 * features + 1])
    weights["mid.0.conv.weight"] = weights["mid.0.conv.weight"][:, features[: -3 * mid]]
    weights["fc.weight"] = weights["fc.weight"][:, pooled]
    for leaf in NORM:
        weights[f"pooled_bn.{leaf}"] = weights[f"pooled_bn.{leaf}"][pooled]


def read_npz(path: Path) -> dict[str, Tensor]:
    """Return the arrays of an archive by name, of float32 alone; ConversionError for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > MAX_FILE:
                raise ConversionError(
                    f"{path} has more than {MAX_FILE >> 20} MiB: not a network that is known"
                )
            arrays = {}
            for entry in entries:
                with archive.open(entry) as member:
                    arrays[entry.filename.removesuffix(".npy")] = _array(member, entry.file_size)
            return arrays
    except ConversionError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, LookupError, RuntimeError, EOFError) as error:
        raise ConversionError(f"{path} cannot be read as arrays of NumPy: it is damaged") from error


def _array(file: IO[bytes], size: int) -> Tensor:
    """Return an array; ValueError for one of another type, or whose size is not that of its shape."""
    if npy.read_magic(file) != (1, 0):
        raise ValueError("another version of the format")
    shape, by_columns, dtype = npy.read_array_header_1_0(file)
    count = math.prod(shape)
    data = file.read(size)
    if dtype != np.float32 or len(data) != count * dtype.itemsize:
        raise ValueError("another type than float32, or another size than that of the shape")
    values = np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if by_columns else "C")
    return torch.from_numpy(np.ascontiguousarray(values))
