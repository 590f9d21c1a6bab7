"""Writes HDF5 files as Keras 2.0.5 saved the authors' networks: see ../golden/README.md for the layout."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import nn

from golden.reference import our_name

KERAS = Path(__file__).parents[1] / "golden" / "keras"
Weights = Mapping[str, NDArray[np.float32]]  # by the names of the golden arrays, in Keras' layout


def names(block: str) -> dict[str, str]:
    """Return golden names -> Keras' names, such as ``conv1d_6/kernel:0``."""
    told: dict[str, dict[str, str]] = json.loads((KERAS / "names.json").read_text())
    return told[block]


def weights_of(network: nn.Module, block: str) -> dict[str, NDArray[np.float32]]:
    """Return a network's weights by golden names in Keras' layout."""
    state = network.state_dict()
    weights = {}
    for name in names(block):
        array = state[our_name(name)].numpy()
        if array.ndim == 4:
            array = array[:, :, 0, :].transpose(2, 1, 0)
        weights[name] = np.ascontiguousarray(array.T if array.ndim == 2 else array)
    return weights


def others(block: str, *, multi: bool) -> Iterator[str]:
    """Yield the layers without weights."""
    counts = {
        "input": 1,
        "reshape": 10 if "se" in block else 1,
        "activation": 20 if block.endswith("2") else 11,
        "max_pooling1d": 9,
        "dropout": 10 if block.endswith("2") else 1,
        "global_average_pooling1d": 9 if "se" in block else 0,
        "multiply": 9 if "se" in block else 0,
        "add": 9 if block.startswith("res") else 0,
        "global_max_pooling1d": 3 if multi else 1,
        "concatenate": int(multi),
    }
    for kind, count in counts.items():
        yield from (f"{kind}_{number}" for number in range(1, count + 1))


def write(path: Path, weights: Weights, block: str, *, multi: bool = True, offset: int = 0) -> Path:
    """Write a file; with an ``offset``, as a script does that has made other networks before."""
    layers: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, theirs in names(block).items():
        layer, _, weight = theirs.partition("/")
        kind, _, number = layer.rpartition("_")
        layers.setdefault(f"{kind}_{int(number) + offset}", {})[weight] = weights[name]
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        for node in (file, group):
            node.attrs["backend"], node.attrs["keras_version"] = "tensorflow", "2.0.5"
        everything = [*others(block, multi=multi), *sorted(layers)]
        group.attrs["layer_names"] = np.array([layer.encode() for layer in everything])
        for layer in everything:
            arrays = layers.get(layer, {})
            node = group.create_group(layer)
            named = [f"{layer}/{weight}".encode() for weight in arrays]
            node.attrs["weight_names"] = np.array(named) if named else np.zeros(0)
            for weight, array in arrays.items():
                node.create_dataset(f"{layer}/{weight}", data=array)
    return path
