"""Musicnn as Pons and Serra (2019) published it, its TensorFlow variables in an .npz file; untrusted input.

The layers are numbered as they were made: ``conv2d``, ``conv2d_1`` and so on. Theirs joins the branches of
the front end as 38, 67 bands, ours as 67, 38; over time theirs alternates maximum and mean.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samplecnn.inference.known.convert import (
    KERAS_LAYER,
    KERAS_NORM,
    Converted,
    architecture,
    outputs_of,
    renamed,
    transposed,
    without_weights,
)
from samplecnn.model.networks.musicnn import LONG, LONG_FRAMES, TALL
from samplecnn.model.networks.spectrogram import SAMPLE_RATE
from samplecnn.runs.errors import RunError
from samplecnn.runs.untrusted import read_arrays
from samplecnn.text import printable

MAX_FILE = 64 << 20  # bytes, unpacked; the largest that they published takes 32 MB

OVER_TIME = ("conv2d_5/", "conv2d_6/", "conv2d_7/")  # convolutions over time alone
# Layers of ours in the order of theirs.
CONVOLUTIONS = ("tall.1", "tall.0", "long.0", "long.1", "long.2", "mid.0", "mid.1", "mid.2")
NORMS = ("input_bn", *(f"{layer}.bn" for layer in CONVOLUTIONS), "pooled_bn", "fc_bn")
LAYERS = {
    **{f"{layer}.conv": ("conv2d", number) for number, layer in enumerate(CONVOLUTIONS)},
    **{layer: ("batch_normalization", number) for number, layer in enumerate(NORMS)},
    **{layer: ("dense", number) for number, layer in enumerate(("fc", "last"))},
}


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
    file = {name: turned(name, weight) for name, weight in read_npz(path).items()}
    tags, dense, mid = (outputs_of(path, f"{layer}/bias", file) for layer in ("dense_1", "dense", "conv2d_5"))
    described = architecture("musicnn", {"original": True, "mid": mid, "dense": dense}, SAMPLE_RATE)
    network = without_weights(described, tags)
    weights = renamed(path, file, network, their_name)
    reorder(weights, mid)
    network.load_state_dict(weights, assign=True)
    return Converted("Musicnn of Pons and Serra", described, network.eval())


def their_name(name: str) -> str | None:
    """Return what a weight of ours is called in the file; None for counts of batches, which theirs lack."""
    layer, _, leaf = name.rpartition(".")
    kind, number = LAYERS[layer]
    their_leaf = (KERAS_NORM if kind == "batch_normalization" else KERAS_LAYER).get(leaf)
    return their_leaf and f"{kind}{f'_{number}' if number else ''}/{their_leaf}"


def turned(name: str, weight: Tensor) -> Tensor:
    """Return a kernel as PyTorch has it: (time, bands, in, out) becomes (out, in, bands, time)."""
    if weight.ndim == 4 and name.startswith(OVER_TIME):  # theirs has the channels as bands
        weight = weight.transpose(1, 2)
    return transposed(weight)


def reorder(weights: dict[str, Tensor], mid: int) -> None:
    """Put the inputs of the layers that hear joined or pooled features into our order."""
    front = torch.cat([torch.arange(TALL, 2 * TALL), torch.arange(TALL)])
    rest = torch.arange(2 * TALL, 2 * TALL + len(LONG_FRAMES) * LONG + 3 * mid)
    features = torch.cat([front, rest])
    pooled = torch.cat([2 * features, 2 * features + 1])
    weights["mid.0.conv.weight"] = weights["mid.0.conv.weight"][:, features[: -3 * mid]]
    weights["fc.weight"] = weights["fc.weight"][:, pooled]
    for leaf in KERAS_NORM:
        weights[f"pooled_bn.{leaf}"] = weights[f"pooled_bn.{leaf}"][pooled]


def read_npz(path: Path) -> dict[str, Tensor]:
    """Return the arrays of an archive by name, of float32 alone; RunError for anything else."""
    try:
        arrays = read_arrays(path, MAX_FILE)
        if any(array.dtype != np.float32 for array in arrays.values()):
            raise TypeError("another type than float32")
    except OSError:
        raise
    except Exception as error:  # a damaged archive raises whatever its layers do
        reason = printable(str(error).partition("\n")[0])
        raise RunError(f"{path} cannot be read as arrays of NumPy: it is damaged ({reason})") from error
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
