"""Keras' layers of the authors' network, and ours: which is which, recognised from names and shapes.

Keras numbers the layers of a class in the order in which they were made, and a script that makes several
networks goes on counting: what counts is a layer's rank within its class. In that order a network has the
stem's convolution, then of each block the shortcut's (where the channels change), the first and the second;
batch norms alike; the two dense layers of each squeeze-and-excitation; the two of the head last.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplecnn.errors import UserError
from samplecnn.model.network import DEPTH, LEVELS, WIDTH_FACTORS
from samplecnn.runs.untrusted import strict_json

Arrays = Mapping[str, NDArray[np.float32]]  # by "layer/weight"

NAME = re.compile(r"(.+?)(?:_(\d+))?")
WITH_WEIGHTS = ("conv1d", "batch_normalization", "dense")
# Blocks by the number of their convolutions: the stem, nine or eighteen, and two shortcuts.
CONVOLUTIONS = {
    1 + DEPTH: ("basic", "se"),
    1 + DEPTH + 2: ("res1", "rese1"),
    1 + 2 * DEPTH + 2: ("res2", "rese2"),
}
HEAD = 2  # dense layers
WIDENING = tuple(
    i for i in range(DEPTH) if WIDTH_FACTORS[i] != (WIDTH_FACTORS[i - 1] if i else 1)
)  # blocks 3 and 9
RENAMED = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# What Keras' own description says of each layer, if it is the paper's.
SETTINGS: dict[str, dict[str, Any]] = {
    "Conv1D": {"activation": "linear", "dilation_rate": [1], "use_bias": True},
    "BatchNormalization": {"epsilon": 0.001, "center": True, "scale": True},
    "Dense": {"use_bias": True},
    "MaxPooling1D": {"pool_size": [3], "strides": [3], "padding": "valid"},
    "Activation": {"activation": "relu"},
}
ACTIVATIONS = {"se.fc1": "relu", "se.fc2": "sigmoid", "head_fc1": "linear", "head_fc2": "sigmoid"}  # of Dense


class KerasError(UserError):
    """A Keras file cannot be read, or is of another network."""


@dataclass(frozen=True)
class Recognised:
    """A network of the authors', recognised by its layers."""

    architecture: dict[str, Any]  # block, multi, width, dropout
    outputs: int  # tags
    layers: Mapping[str, str]  # Keras' name -> the name of ours


def describe(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> Recognised:
    """Recognise the network; KerasError for any that is not the authors'."""
    named = json.loads(metadata["layers"])
    ranked = {kind: _ranked(path, arrays, kind) for kind in WITH_WEIGHTS}
    for key in arrays:
        if _kind(key.partition("/")[0]) not in WITH_WEIGHTS:
            raise KerasError(f"{path} has a layer {key.partition('/')[0]!r} with weights: another network")
    pair = CONVOLUTIONS.get(len(ranked["conv1d"]))
    excited = len(ranked["dense"]) == HEAD + 2 * DEPTH
    if pair is None or not (excited or len(ranked["dense"]) == HEAD):
        counts = ", ".join(f"{len(layers)} {kind}" for kind, layers in ranked.items())
        raise KerasError(f"{path} is of another network: it has {counts} layers with weights")
    block = pair[excited]
    if len(ranked["batch_normalization"]) != len(ranked["conv1d"]) + 1:
        raise KerasError(
            f"{path} is of another network: {len(ranked['conv1d'])} convolutions and a head need "
            f"{len(ranked['conv1d']) + 1} batch norms, it has {len(ranked['batch_normalization'])}"
        )
    width = _shape(path, arrays, ranked["conv1d"][0])[-1]
    features, outputs = _shape(path, arrays, ranked["dense"][-1])
    by_level = {LEVELS: sum(WIDTH_FACTORS[-LEVELS:]) * width, 1: WIDTH_FACTORS[-1] * width}
    levels = next((levels for levels, size in by_level.items() if size == features), None)
    if levels is None:
        allowed = " or ".join(map(str, by_level.values()))
        raise KerasError(f"{path}: its head has {features} features, where {width} channels make {allowed}")
    options = {"alpha": _alpha(path, arrays, ranked["dense"])} if excited else {}
    _check_others(path, named, block, multi=levels == LEVELS)
    pairs = _pairs(block, ranked)
    if "model_config" in metadata:
        _check_settings(path, metadata["model_config"], pairs)
    architecture = {
        "block": {"name": block, **options},
        "multi": levels == LEVELS,
        "width": width,
        "dropout": 0.5,  # of training: it has no effect on what is imported
    }
    return Recognised(architecture, outputs, pairs)


def _kind(layer: str) -> str:
    match = NAME.fullmatch(layer)
    return match.group(1) if match else layer


def _ranked(path: Path, arrays: Arrays, kind: str) -> list[str]:
    """Return the layers of a class that have weights, in the order in which they were made."""
    layers = {key.partition("/")[0] for key in arrays}
    numbers = {}
    for layer in layers:
        match = NAME.fullmatch(layer)
        if match and match.group(1) == kind:
            numbers[layer] = int(match.group(2) or 0)
    if len(set(numbers.values())) < len(numbers):
        raise KerasError(f"{path} has two {kind} layers of the same number")
    return sorted(numbers, key=numbers.__getitem__)


def _shape(path: Path, arrays: Arrays, layer: str) -> tuple[int, ...]:
    kernel = arrays.get(f"{layer}/kernel")
    dimensions = 3 if _kind(layer) == "conv1d" else 2
    if kernel is None or kernel.ndim != dimensions or 0 in kernel.shape:
        raise KerasError(f"{path}: layer {layer!r} has no kernel of {dimensions} dimensions")
    return kernel.shape


def _alpha(path: Path, arrays: Arrays, dense: list[str]) -> float:
    """Return the amplifying ratio, from the last block's hidden layer: the finest there is."""
    channels, hidden = _shape(path, arrays, dense[2 * DEPTH - 2])
    ratio = hidden / channels
    # The nearest float above: SE layers have int(alpha * channels) units.
    while int(ratio * channels) < hidden:
        ratio = float(np.nextafter(ratio, np.inf))
    return int(ratio) if ratio.is_integer() else ratio


def _pairs(block: str, ranked: Mapping[str, list[str]]) -> dict[str, str]:
    """Return our names of Keras' layers with weights."""
    convolutions, norms = ["stem_conv"], ["stem_bn"]
    dense = []
    for index in range(DEPTH):
        ours = f"blocks.{index}."
        if block.startswith("res") and index in WIDENING:
            convolutions.append(f"{ours}shortcut.conv")
            norms.append(f"{ours}shortcut.bn")
        for number in (1, 2) if block.endswith("2") else (1,):
            convolutions.append(f"{ours}conv{number}")
            norms.append(f"{ours}bn{number}")
        if "se" in block:
            dense += [f"{ours}se.fc1", f"{ours}se.fc2"]
    ours_by_kind = {
        "conv1d": convolutions,
        "batch_normalization": [*norms, "head_bn"],
        "dense": [*dense, "head_fc1", "head_fc2"],
    }
    return {
        theirs: ours
        for kind, layers in ranked.items()
        for theirs, ours in zip(layers, ours_by_kind[kind], strict=True)
    }


def _check_others(path: Path, layers: list[str], block: str, *, multi: bool) -> None:
    """Refuse a network with other operations between the layers that have weights."""
    expected = dict(_others(block, multi=multi))
    counts = Counter(kind for layer in layers if (kind := _kind(layer)) not in WITH_WEIGHTS)
    for kind in sorted(counts.keys() | expected.keys()):
        allowed = expected.get(kind, (0,))
        if counts[kind] not in allowed:
            raise KerasError(
                f"{path} is of another network: it has {counts[kind]} layers of {kind[:80]!r}, where one of "
                f"{block!r} blocks has {allowed[0]}"
            )


def _others(block: str, *, multi: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the classes of layers without weights, and how many of each there may be."""
    excited, residual, two = "se" in block, block.startswith("res"), block.endswith("2")
    yield "activation", (2 + DEPTH * (2 if two else 1),)
    yield "max_pooling1d", (DEPTH,)
    yield "global_max_pooling1d", (LEVELS if multi else 1,)
    yield "concatenate", (1 if multi else 0,)
    yield "global_average_pooling1d", (DEPTH if excited else 0,)
    yield "multiply", (DEPTH if excited else 0,)
    yield "add", (DEPTH if residual else 0,)
    yield "reshape", (1 + (DEPTH if excited else 0),)
    # Rates of 0 may have been left out; a dropout does nothing to a trained network.
    yield "dropout", tuple(range(2 + DEPTH))
    yield "input", (1,)


def _check_settings(path: Path, text: str, ours: Mapping[str, str]) -> None:
    """Compare Keras' own description of the layers with the paper's, as far as shapes do not tell."""
    try:
        layers = strict_json(text.encode())["config"]["layers"]
        settings = [(str(layer["class_name"]), dict(layer["config"])) for layer in layers]
    except (ValueError, LookupError, TypeError) as error:
        raise KerasError(f"{path}: its description of the model is damaged") from error
    for kind, config in settings:
        wanted = dict(SETTINGS.get(kind, {}))
        name = ours.get(str(config.get("name")), "")
        if kind == "Conv1D":
            stem = name == "stem_conv"
            wanted |= {"strides": [3 if stem else 1], "padding": "valid" if stem else "same"}
        if kind == "Dense":
            wanted["activation"] = ACTIVATIONS.get(".".join(name.split(".")[-2:]))
        for key, value in wanted.items():
            if key in config and config[key] != value:
                raise KerasError(
                    f"{path} is of another network: {str(config.get('name'))[:80]} has {key} "
                    f"{str(config[key])[:80]}, the paper's {value}"
                )


def our_weights(
    path: Path, arrays: Arrays, recognised: Recognised, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights by our names, in our layout, of the shapes of ``expected``.

    Convolution kernels (taps, in, out) become (out, in, 1, taps), dense ones (in, out) become (out, in).
    Raises KerasError where a weight is missing, of another shape, not finite, or a variance below 0.
    """
    found: dict[str, Tensor] = {}
    for key, array in arrays.items():
        layer, _, weight = key.partition("/")
        if array.ndim == 3:
            array = array.transpose(2, 1, 0)[:, :, None, :]
        elif array.ndim == 2:
            array = array.T
        name = f"{recognised.layers[layer]}.{RENAMED[weight]}"
        if not np.isfinite(array).all():
            raise KerasError(f"{path} has NaN or infinite weights in {key}")
        if weight == "moving_variance" and (array < 0).any():
            raise KerasError(f"{path} has a negative variance in {key}")
        if name in found:
            raise KerasError(f"{path} has {name} twice: {key} is not of the authors' network")
        found[name] = torch.from_numpy(np.ascontiguousarray(array))
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.zeros((), dtype=tensor.dtype)
        theirs = tuple(found[name].shape) if name in found else None
        if theirs != tuple(tensor.shape):
            told_shape = "is missing" if theirs is None else f"has shape {theirs}"
            raise KerasError(
                f"{path} is of another network: {name} {told_shape}, it needs {tuple(tensor.shape)}"
            )
    if extra := found.keys() - expected.keys():
        raise KerasError(f"{path} is of another network: it has {min(extra)} too")
    return found
