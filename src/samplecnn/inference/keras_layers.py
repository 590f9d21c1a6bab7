"""Keras' layers of the authors' network, and ours: which is which, recognised from names and shapes.

Keras numbers the layers of a class in the order in which they were made, and a script that makes several
networks goes on counting: what counts is a layer's rank within its class. Our networks have their layers in
the same order.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samplecnn.errors import UserError
from samplecnn.model.blocks import BLOCKS, Shortcut, SqueezeExcitation
from samplecnn.model.network import LEVELS, WIDTH_FACTORS, SampleCNN
from samplecnn.model.norm import BatchNorm
from samplecnn.runs.untrusted import strict_json

Arrays = Mapping[str, NDArray[np.float32]]  # by "layer/weight"

NAME = re.compile(r"(.+?)(?:_(\d+))?")
WITH_WEIGHTS = {"conv1d": nn.Conv2d, "batch_normalization": BatchNorm, "dense": nn.Linear}
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
    for layer in (key.partition("/")[0] for key in arrays):
        if _kind(layer) not in WITH_WEIGHTS:
            raise KerasError(f"{path} has a layer {layer!r} with weights: another network")
    ranked = {kind: _ranked(path, arrays, kind) for kind in WITH_WEIGHTS}
    block, network = _same_layers(path, ranked)
    width = _shape(path, arrays, ranked["conv1d"][0])[-1]
    features, outputs = _shape(path, arrays, ranked["dense"][-1])
    by_level = {LEVELS: sum(WIDTH_FACTORS[-LEVELS:]) * width, 1: WIDTH_FACTORS[-1] * width}
    levels = next((levels for levels, size in by_level.items() if size == features), None)
    if levels is None:
        allowed = " or ".join(map(str, by_level.values()))
        raise KerasError(f"{path}: its head has {features} features, where {width} channels make {allowed}")
    _check_others(path, json.loads(metadata["layers"]), block, network, levels)
    ours = _our_layers(network)
    pairs = {layer: name for kind in ranked for layer, name in zip(ranked[kind], ours[kind], strict=True)}
    if "model_config" in metadata:
        _check_settings(path, metadata["model_config"], pairs)
    excited = any(name.endswith("se.fc1") for name in ours["dense"])
    options = {"alpha": _alpha(path, arrays, ranked["dense"])} if excited else {}
    architecture = {
        "block": {"name": block, **options},
        "multi": levels == LEVELS,
        "width": width,
        "dropout": 0.5,  # of training: it has no effect on what is imported
    }
    return Recognised(architecture, outputs, pairs)


def _same_layers(path: Path, ranked: Mapping[str, list[str]]) -> tuple[str, SampleCNN]:
    """Return the block whose network has as many layers of each class, and the smallest such network."""
    theirs = [len(layers) for layers in ranked.values()]
    for name, block in BLOCKS.items():
        with torch.device("meta"):
            network = SampleCNN(block, tags=1, width=1)
        if [len(layers) for layers in _our_layers(network).values()] == theirs:
            return name, network
    counts = ", ".join(f"{len(layers)} {kind}" for kind, layers in ranked.items())
    raise KerasError(f"{path} is of another network: it has {counts} layers with weights")


def _our_layers(network: SampleCNN) -> dict[str, list[str]]:
    """Return the names of our layers with weights, by Keras' class."""
    return {
        kind: [name for name, module in network.named_modules() if isinstance(module, ours)]
        for kind, ours in WITH_WEIGHTS.items()
    }


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
    channels, hidden = _shape(path, arrays, dense[-4])  # in front of its second layer and the head's two
    ratio = hidden / channels
    # The nearest float above: SE layers have int(alpha * channels) units.
    while int(ratio * channels) < hidden:
        ratio = float(np.nextafter(ratio, np.inf))
    return int(ratio) if ratio.is_integer() else ratio


def _check_others(path: Path, layers: Iterable[str], block: str, network: SampleCNN, levels: int) -> None:
    """Refuse a network with other operations between the layers that have weights."""
    gates, sums, pools, convolutions = (
        sum(isinstance(module, kind) for module in network.modules())
        for kind in (SqueezeExcitation, Shortcut, nn.MaxPool2d, nn.Conv2d)
    )
    projections = sum("shortcut" in name for name in _our_layers(network)["conv1d"])
    expected = {
        "input": 1,
        "reshape": 1 + gates,
        "activation": convolutions - projections + 1,  # after each convolution, and in the head
        "max_pooling1d": pools,
        "global_average_pooling1d": gates,
        "multiply": gates,
        "add": sums,
        "global_max_pooling1d": levels,
        "concatenate": int(levels > 1),
    }
    counts = Counter(map(_kind, layers))
    for kind in sorted(counts.keys() | expected.keys()):
        # A dropout does nothing to a trained network.
        if kind not in (*WITH_WEIGHTS, "dropout") and counts[kind] != expected.get(kind, 0):
            raise KerasError(
                f"{path} is of another network: it has {counts[kind]} layers of {kind[:80]!r}, where one of "
                f"{block!r} blocks has {expected.get(kind, 0)}"
            )


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
            found_shape = "is missing" if theirs is None else f"has shape {theirs}"
            raise KerasError(
                f"{path} is of another network: {name} {found_shape}, it needs {tuple(tensor.shape)}"
            )
    if extra := found.keys() - expected.keys():
        raise KerasError(f"{path} is of another network: it has {min(extra)} too")
    return found
