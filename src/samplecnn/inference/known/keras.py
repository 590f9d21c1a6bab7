"""The networks of the paper's authors in files of Keras: recognised from names and shapes, untrusted input.

Their repository (tae-jun/resemul) has `se-multi-auc_0.9111-tfrmodel.hdf5` and
`rese-multi-auc_0.9113-tfrmodel.hdf5`, written by Keras 2.0.5.

Keras numbers the layers of a class in the order in which they were made, and a script that makes several
networks goes on counting: what counts is a layer's rank within its class. Our networks have their layers in
the same order.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samplecnn.inference.known.convert import (
    KERAS_LAYER,
    KERAS_NORM,
    Converted,
    architecture,
    renamed,
    transposed,
    without_weights,
)
from samplecnn.inference.known.keras_file import read_arrays
from samplecnn.model import blocks
from samplecnn.model.architecture import SAMPLECNN
from samplecnn.model.blocks import BLOCKS, Shortcut, SqueezeExcitation
from samplecnn.model.network import LEVELS, WIDTH_FACTORS, SampleCNN
from samplecnn.model.norm import BatchNorm
from samplecnn.runs.errors import RunError
from samplecnn.runs.untrusted import strict_json

Arrays = Mapping[str, Tensor]  # by "layer/weight"

SAMPLE_RATE = 22_050  # Hz
NUMBER = re.compile(r"_\d+$")  # of a layer within its class
WITH_WEIGHTS = {"conv1d": nn.Conv2d, "batch_normalization": BatchNorm, "dense": nn.Linear}
# What Keras' own description says of each layer, if it is the paper's.
SETTINGS: dict[str, dict[str, Any]] = {
    "Conv1D": {"activation": "linear", "dilation_rate": [1], "use_bias": True},
    "BatchNormalization": {"epsilon": 0.001, "center": True, "scale": True},
    "Dense": {"use_bias": True},
    "MaxPooling1D": {"pool_size": [3], "strides": [3], "padding": "valid"},
    "Activation": {"activation": "relu"},
}
ACTIVATIONS = {"se.fc1": "relu", "se.fc2": "sigmoid", "head_fc1": "linear", "head_fc2": "sigmoid"}  # of Dense


def convert_keras(path: Path) -> Converted:
    """Return the network in an HDF5 file; RunError for any that is not the authors'."""
    return recognised(path, *read_arrays(path))


def recognised(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> Converted:
    """Return the network of what ``read_arrays`` has read from ``path``."""
    for layer in (key.partition("/")[0] for key in arrays):
        if _kind(layer) not in WITH_WEIGHTS:
            raise RunError(f"{path} has a layer {layer!r} with weights: another network")
    ranked = {kind: _ranked(path, arrays, kind) for kind in WITH_WEIGHTS}
    block, small = _same_layers(path, ranked)
    width = _shape(path, arrays, ranked["conv1d"][0])[-1]
    features, outputs = _shape(path, arrays, ranked["dense"][-1])
    by_level = {LEVELS: sum(WIDTH_FACTORS[-LEVELS:]) * width, 1: WIDTH_FACTORS[-1] * width}
    levels = next((levels for levels, size in by_level.items() if size == features), None)
    if levels is None:
        allowed = " or ".join(map(str, by_level.values()))
        raise RunError(f"{path}: its head has {features} features, where {width} channels make {allowed}")
    _check_others(path, json.loads(metadata["layers"]), block, small, levels)
    ours = _our_layers(small)
    theirs = {name: layer for kind in ranked for name, layer in zip(ours[kind], ranked[kind], strict=True)}
    if "model_config" in metadata:
        _check_settings(path, metadata["model_config"], {layer: name for name, layer in theirs.items()})
    excited = any(name.endswith("se.fc1") for name in ours["dense"])
    options = {"alpha": _alpha(path, arrays, ranked["dense"])} if excited else {}

    def their_name(name: str) -> str | None:
        layer, _, leaf = name.rpartition(".")
        leaves = KERAS_NORM if layer in ours["batch_normalization"] else KERAS_LAYER
        return f"{theirs[layer]}/{leaves[leaf]}" if leaf in leaves else None

    of_samplecnn = {"block": {"name": block, **options}, "multi": levels == LEVELS, "width": width}
    described = architecture(SAMPLECNN, of_samplecnn, SAMPLE_RATE)
    network = without_weights(described, outputs)
    kernels = {name: transposed(array) for name, array in arrays.items()}
    network.load_state_dict(renamed(path, kernels, network, their_name), assign=True)
    title = f"{blocks.title(block)}, {'multi-level' if levels == LEVELS else 'one level'}, of Kim et al."
    return Converted(title, described, network.eval())


def _same_layers(path: Path, ranked: Mapping[str, list[str]]) -> tuple[str, SampleCNN]:
    """Return the block whose network has as many layers of each class, and the smallest such network."""
    theirs = [len(layers) for layers in ranked.values()]
    for name, block in BLOCKS.items():
        with torch.device("meta"):
            network = SampleCNN(block, tags=1, width=1)
        if [len(layers) for layers in _our_layers(network).values()] == theirs:
            return name, network
    counts = ", ".join(f"{len(layers)} {kind}" for kind, layers in ranked.items())
    raise RunError(f"{path} is of another network: it has {counts} layers with weights")


def _our_layers(network: SampleCNN) -> dict[str, list[str]]:
    """Return the names of our layers with weights, by Keras' class."""
    return {
        kind: [name for name, module in network.named_modules() if isinstance(module, ours)]
        for kind, ours in WITH_WEIGHTS.items()
    }


def _kind(layer: str) -> str:
    return NUMBER.sub("", layer)


def _ranked(path: Path, arrays: Arrays, kind: str) -> list[str]:
    """Return the layers of a class that have weights, in the order in which they were made."""
    layers = {key.partition("/")[0] for key in arrays}
    numbers = {layer: int(layer[len(kind) + 1 :] or 0) for layer in layers if _kind(layer) == kind}
    if len(set(numbers.values())) < len(numbers):
        raise RunError(f"{path} has two {kind} layers of the same number")
    return sorted(numbers, key=numbers.__getitem__)


def _shape(path: Path, arrays: Arrays, layer: str) -> tuple[int, ...]:
    kernel = arrays.get(f"{layer}/kernel")
    dimensions = 3 if _kind(layer) == "conv1d" else 2
    if kernel is None or kernel.ndim != dimensions or 0 in kernel.shape:
        raise RunError(f"{path}: layer {layer!r} has no kernel of {dimensions} dimensions")
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
            raise RunError(
                f"{path} is of another network: it has {counts[kind]} layers of {kind[:80]!r}, where one of "
                f"{block!r} blocks has {expected.get(kind, 0)}"
            )


def _check_settings(path: Path, text: str, ours: Mapping[str, str]) -> None:
    """Compare Keras' own description of the layers with the paper's, as far as shapes do not tell."""
    try:
        layers = strict_json(text.encode())["config"]["layers"]
        settings = [(str(layer["class_name"]), dict(layer["config"])) for layer in layers]
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(f"{path}: its description of the model is damaged") from error
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
                raise RunError(
                    f"{path} is of another network: {str(config.get('name'))[:80]} has {key} "
                    f"{str(config[key])[:80]}, the paper's {value}"
                )
