"""Reads the golden arrays into our modules and back into the arrays' own layout."""

import inspect
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samplecnn.model.blocks import BLOCKS

ARRAYS = Path(__file__).parent / "arrays"

PAPER = ("basic", "se", "res1", "res2", "rese1", "rese2")  # blocks
Arrays = dict[str, NDArray[np.floating]]

# What the authors' framework calls a thing -> what ours does.
RENAMED = {
    "shortcut_conv.": "shortcut.conv.",
    "shortcut_bn.": "shortcut.bn.",
    "front.conv.": "stem_conv.",
    "front.bn.": "stem_bn.",
    "head.fc1.": "head_fc1.",
    "head.bn.": "head_bn.",
    "head.fc2.": "head_fc2.",
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def narrow(kind: str) -> dict[str, float]:
    """Return the options of a small block: an amplifying ratio of 2, where it has one."""
    has_alpha = kind in BLOCKS and "alpha" in inspect.signature(BLOCKS[kind]).parameters
    return {"alpha": 2} if has_alpha else {}


def load(name: str) -> Arrays:
    with np.load(ARRAYS / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def our_name(name: str) -> str:
    """``block3.shortcut_conv.kernel -> blocks.2.shortcut.conv.weight``."""
    if name.startswith("block"):
        number, rest = name.removeprefix("block").split(".", 1)
        return f"blocks.{int(number) - 1}.{our_name(rest)}"
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def our_layout(array: NDArray[np.floating]) -> Tensor:
    """Convolution kernels ``(taps, in, out) -> (out, in, 1, taps)``, dense ``(in, out) -> (out, in)``."""
    tensor = torch.from_numpy(array)
    if tensor.ndim == 3:
        return tensor.permute(2, 1, 0)[:, :, None, :]
    return tensor.T if tensor.ndim == 2 else tensor


def part(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    """All arrays under ``prefix/`` by our names, in our layout."""
    return {
        our_name(key.removeprefix(f"{prefix}/")): our_layout(value)
        for key, value in arrays.items()
        if key.startswith(f"{prefix}/")
    }


def set_weights(module: nn.Module, arrays: Arrays) -> None:
    """Put the file's weights into ``module``: every weight has a place, every place gets one."""
    weights = part(arrays, "weight")
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)


def feature_map(array: NDArray[np.floating]) -> Tensor:
    """``(batch, time, channels) -> (batch, channels, 1, time)`` in channels_last memory."""
    return torch.from_numpy(array).transpose(1, 2)[:, :, None, :]
